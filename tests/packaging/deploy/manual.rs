//! The manual and the completions are made from the options: none can be missing.

use std::process::Command;

use crate::{
    deploy::output,
    files::{Running, TestDir},
};

/// The subcommands, as the help lists them.
fn subcommands(place: &TestDir) -> Vec<String> {
    let help = place.run(&["--help"]).stdout;
    let listed = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let words = listed.lines().filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").map(str::to_owned).collect()
}

#[test]
fn the_manual_has_a_page_for_each_command_and_every_option_of_run() {
    let place = TestDir::new();
    assert_eq!(place.run(&["man", "man"]).code, 0);
    let commands = subcommands(&place);
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        let page = place.root().join(format!("man/tidemill-{command}.1"));
        assert!(page.exists(), "{}", page.display());
    }
    let page = std::fs::read_to_string(place.root().join("man/tidemill-run.1")).unwrap();
    let help = place.run(&["run", "--help"]).stdout;
    for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
        let option: String =
            option.chars().take_while(|letter| letter.is_alphabetic() || *letter == '-').collect();
        assert!(page.contains(&option.replace('-', "\\-")), "{option}");
    }
    let first = place.run(&["man"]).stdout;
    assert_eq!(first, std::fs::read_to_string(place.root().join("man/tidemill.1")).unwrap());
    for heading in
        ["EXAMPLES", "SIGNALS", "FILES", "ENVIRONMENT", "\"EXIT STATUS\"", "\"SEE ALSO\""]
    {
        assert!(first.contains(&format!("\n.SH {heading}\n")), "{heading}: {first}");
    }
}

#[test]
fn a_manual_that_cannot_be_written_is_an_error() {
    let place = TestDir::new();
    place.put("taken", "a file");
    let ended = place.run(&["man", "in/taken/man"]);
    assert_eq!(ended.code, 78);
    assert!(ended.stderr.contains("cannot write the manual"), "{ended:?}");
}

#[test]
fn completions_know_every_command_and_bash_reads_its_own() {
    let place = TestDir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Running::start(&mut place.tidemill(&["completions", shell])).end();
        assert_eq!(script.code, 0, "{script:?}");
        for command in subcommands(&place) {
            assert!(script.stdout.contains(&command), "{shell}: {command}");
        }
        std::fs::write(place.root().join(shell), script.stdout).unwrap();
    }
    let script = format!(
        ". {}; COMP_WORDS=(tidemill run --on-s); COMP_CWORD=2; _tidemill tidemill --on-s run; echo \"${{COMPREPLY[@]}}\"",
        place.root().join("bash").display()
    );
    assert_eq!(output(Command::new("bash").args(["-c", &script])), "--on-success\n");
    assert_eq!(place.run(&["completions", "sh"]).code, 64);
}
