//! The configuration: what is shipped loads, what is wrong is reported in full, what is printed means
//! the same.
//!
//! A case of a bad configuration is a file of `tests/config/`; next to it stands what the user
//! sees. `TIDEMILL_BLESS=1` writes those: read them before you commit them.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

pub mod documents;

use std::{
    fs,
    os::unix::{ffi::OsStringExt, fs::symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use assert_cmd::Command;
use tempfile::TempDir;
use tidemill::{
    config::{Config, Diagnostics, FileOptions, Http, Options, PipelineOptions, load},
    policy::{Durability, OnExists, OnSuccess},
};

/// A directory with what the cases name: `inbox/sub`, `second`, `third`, `a-file`, `link-to-inbox`.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let bench = Self(dir);
        for made in ["inbox/sub", "second", "third"] {
            fs::create_dir_all(bench.at(made)).expect(made);
        }
        fs::write(bench.at("a-file"), "").expect("a file");
        symlink("inbox", bench.at("link-to-inbox")).expect("a link");
        bench
    }

    /// Without symbolic links, as the configuration has it.
    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().expect("it is there")
    }

    fn at(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    /// Options that name a file with this text.
    fn file(&self, text: &str) -> Options {
        let path = self.at("tidemill.toml");
        fs::write(&path, text).expect("a file");
        Options { config: Some(path), ..Options::default() }
    }

    fn load(&self, text: &str) -> Result<Config, Diagnostics> {
        load(&self.file(text))
    }

    /// INPUT OUTPUT.
    fn options(&self) -> Options {
        let (input, output) = (Some(self.at("inbox")), Some(self.at("outbox")));
        let pipeline = PipelineOptions { input, output, ..PipelineOptions::default() };
        Options { pipeline, ..Options::default() }
    }

    /// What was printed, with no path of this machine.
    fn printed(&self, problems: &Diagnostics) -> String {
        let root = self.root();
        format!("{problems}\n").replace(root.to_str().expect("UTF-8"), "DIR")
    }
}

fn files_of(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

fn printed(options: &Options) -> String {
    load(options).expect_err("it is wrong").to_string()
}

/// The text of a shipped file with its absolute paths moved below the bench, its inputs made.
fn moved(bench: &Bench, path: &Path) -> String {
    let root = bench.root();
    let root = root.to_str().expect("UTF-8");
    let text = fs::read_to_string(path).expect("a file");
    let text = text.replace("= \"/", &format!("= \"{root}/"));
    let text = text.replace("\"archive:/", &format!("\"archive:{root}/"));
    let parsed: toml::Table = text.parse().expect("TOML");
    for pipeline in parsed["pipeline"].as_array().expect("pipelines") {
        let input = pipeline["input"].as_str().expect("an input");
        fs::create_dir_all(root.to_owned() + "/" + input.trim_start_matches(root)).expect("made");
    }
    text
}

#[test]
fn every_shipped_file_loads_and_prints_as_what_it_means() {
    let files = files_of("config");
    assert!(files.len() >= 7, "{files:?}");
    for path in files {
        let bench = Bench::new();
        let config = bench.load(&moved(&bench, &path));
        let config = config.unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()));
        let printed = config.to_string();
        let again = bench.load(&printed).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.to_string(), printed, "{}", path.display());
        assert_eq!(format!("{again:?}"), format!("{config:?}"), "{}", path.display());
        assert_eq!(config.notes(), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn every_bad_file_is_reported_in_full() {
    let bless = documents::blesses();
    documents::bad_keys();
    let cases = files_of("tests/config");
    assert!(cases.len() >= 15, "{cases:?}");
    for case in cases {
        let bench = Bench::new();
        let text = fs::read_to_string(&case).expect("a case");
        let problems = bench.load(&text).err();
        let problems = problems.unwrap_or_else(|| panic!("{} loads", case.display()));
        let (printed, kept) = (bench.printed(&problems), case.with_extension("stderr"));
        if bless {
            fs::write(&kept, &printed).expect("blessed");
        }
        let expected = fs::read_to_string(&kept).unwrap_or_default();
        assert_eq!(printed, expected, "{}", case.display());
    }
}

#[test]
fn the_annotated_file_shows_the_defaults() {
    let bench = Bench::new();
    let text = &documents::annotated();
    let key = |line: &str| {
        let (key, _) = line.strip_prefix("# ")?.split_once(" = ")?;
        key.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()).then_some(())
    };
    for name in documents::keys_with_defaults() {
        assert!(text.contains(&format!("\n# {name} = ")), "the default of `{name}` is not shown");
    }
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| if key(line).is_some() { line.trim_start_matches("# ") } else { line })
        .collect();
    let explicit = bench.load(&uncommented.join("\n")).expect("the defaults load");
    let implicit =
        bench.load("[[pipeline]]\ninput = \"inbox\"\noutput = \"outbox\"").expect("it loads");
    assert_eq!(explicit.to_string(), implicit.to_string());
    assert_eq!(bench.load(text).expect("it loads").to_string(), implicit.to_string());
}

#[test]
fn two_directories_are_a_whole_service() {
    let bench = Bench::new();
    let config = load(&bench.options()).expect("it loads");
    assert_eq!(config.http, Http::Default);
    assert_eq!(config.state_dir, bench.at("outbox/.tidemill"));
    let [pipeline] = config.pipelines.as_slice() else { panic!("{config:?}") };
    assert_eq!(&*pipeline.name, "main");
    assert_eq!(pipeline.transforms.to_string(), "zstd:3");
    assert_eq!(pipeline.on_success, OnSuccess::Keep);
    assert_eq!(pipeline.quarantine, bench.at("outbox/.tidemill/quarantine/main"));
}

#[test]
fn once_has_no_http_unless_it_is_asked_for() {
    let bench = Bench::new();
    let once = Options { once: true, ..bench.options() };
    assert_eq!(load(&once).expect("it loads").http, Http::Off);
    let file = FileOptions { http: Some("127.0.0.1:0".into()), ..FileOptions::default() };
    let asked = Options { file, ..once };
    let address = "127.0.0.1:0".parse().expect("an address");
    assert_eq!(load(&asked).expect("it loads").http, Http::At(address));
}

#[test]
fn options_override_the_only_pipeline_of_a_file() {
    let bench = Bench::new();
    let file = bench.file("shutdown_deadline = \"5s\"\n[[pipeline]]\ninput = \"inbox\"\noutput = \"outbox\"\ntransforms = \"gzip\"\nexclude = [\"a\"]\non_exists = \"skip\"");
    let options = Options {
        pipeline: PipelineOptions {
            input: Some(bench.at("second")),
            output: Some(bench.at("other")),
            transforms: Some("xz".into()),
            exclude: Some(vec!["b".into()]),
            durability: Some("none".into()),
            ..PipelineOptions::default()
        },
        file: FileOptions { shutdown_deadline: Some("0".into()), ..FileOptions::default() },
        ..file
    };
    let config = load(&options).expect("it loads");
    assert_eq!(config.keys.shutdown_deadline, Duration::ZERO);
    let [pipeline] = config.pipelines.as_slice() else { panic!("{config:?}") };
    assert_eq!((&pipeline.input, &pipeline.output), (&bench.at("second"), &bench.at("other")));
    assert_eq!(pipeline.transforms.to_string(), "xz:6");
    assert_eq!(pipeline.filter.written().exclude, ["b"]);
    assert_eq!(pipeline.keys.on_exists, OnExists::Skip);
    assert_eq!(pipeline.keys.durability, Durability::None);
    assert_eq!(config.notes().len(), 1, "{:?}", config.notes());
}

/// Each pipeline gets memory for its first files whatever the limit is: four of them needed 2.4 GiB of
/// the one that was set, and no word of it.
#[test]
fn pipelines_that_need_more_memory_together_than_the_limit_are_noted() {
    let bench = Bench::new();
    let with = |count: usize| {
        let pipeline = |number: usize| {
            let (input, output) = (format!("in{number}"), format!("out{number}"));
            fs::create_dir_all(bench.at(&input)).expect("a directory");
            format!(
                "[[pipeline]]\nname = \"p{number}\"\ninput = {:?}\noutput = {:?}\ntransforms = \"xz:9\"\n",
                bench.at(&input),
                bench.at(&output)
            )
        };
        let pipelines: String = (0..count).map(pipeline).collect();
        let text = format!(
            "state_dir = {:?}\n[limits]\nmemory = \"1GiB\"\n{pipelines}",
            bench.at("state")
        );
        load(&bench.file(&text)).expect("it loads").notes()
    };
    assert_eq!(with(1), Vec::<String>::new());
    let notes = with(4);
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.contains("of the 4 pipelines need up to"), "{note}");
}

#[test]
fn a_file_may_leave_the_directories_to_the_command_line() {
    let bench = Bench::new();
    let file = bench.file("[[pipeline]]\ntransforms = \"gzip\"");
    let config = load(&Options { config: file.config, ..bench.options() }).expect("it loads");
    assert_eq!(config.pipelines[0].output, bench.at("outbox"));
    assert_eq!(config.pipelines[0].transforms.to_string(), "gzip:6");
}

#[test]
fn an_option_for_one_of_several_pipelines_says_where_to_write_it() {
    let bench = Bench::new();
    let text = "state_dir = \"state\"\n[[pipeline]]\nname = \"a\"\ninput = \"inbox\"\noutput = \"out/a\"\n[[pipeline]]\nname = \"b\"\ninput = \"second\"\noutput = \"out/b\"";
    assert!(bench.load(text).is_ok());
    let pipeline = PipelineOptions {
        on_success: Some("delete".into()),
        include: Some(vec!["*.log".into()]),
        ..PipelineOptions::default()
    };
    let options = Options { pipeline, ..bench.file(text) };
    let printed = printed(&options);
    assert!(printed.contains("--on-success: the configuration has several pipelines"), "{printed}");
    assert!(
        printed
            .contains("write `on_success = \"delete\"` into the [[pipeline]] it is for: `a`, `b`"),
        "{printed}"
    );
    assert!(printed.contains("write `include = [\"*.log\"]` into"), "{printed}");
}

#[test]
fn several_pipelines_need_a_state_directory() {
    let bench = Bench::new();
    let text = "[[pipeline]]\nname = \"a\"\ninput = \"inbox\"\noutput = \"out/a\"\n[[pipeline]]\nname = \"b\"\ninput = \"second\"\noutput = \"out/b\"";
    let problems = bench.load(text).expect_err("it is missing");
    assert_eq!(problems.all.len(), 1, "{problems}");
    assert!(problems.to_string().contains("several pipelines need a `state_dir`"), "{problems}");
}

#[test]
fn a_wrong_option_is_named() {
    let bench = Bench::new();
    let with = |change: fn(&mut PipelineOptions, String), value: String| {
        let mut options = bench.options();
        change(&mut options.pipeline, value);
        printed(&options)
    };
    let transforms = with(|options, value| options.transforms = Some(value), "zip".to_owned());
    assert!(transforms.starts_with("error: --transform: `zip` is not a transform"), "{transforms}");
    let inside = bench.at("inbox/out").display().to_string();
    let output = with(|options, value| options.output = Some(value.into()), inside);
    assert!(output.starts_with("error: OUTPUT: the output "), "{output}");
    let archive = format!("archive:{}", bench.at("outbox").display());
    let archive = with(|options, value| options.on_success = Some(value), archive);
    assert!(archive.starts_with("error: --on-success: the archive "), "{archive}");
    let half = with(|options, _| options.output = None, String::new());
    assert!(half.starts_with("error: INPUT and OUTPUT go together"), "{half}");
    let file = printed(&Options { config: Some(bench.at("none.toml")), ..Options::default() });
    assert!(file.starts_with("error: --config: cannot read "), "{file}");
    assert!(printed(&Options::default()).starts_with("error: there is no pipeline"));
}

#[test]
fn a_path_that_toml_cannot_hold_is_refused() {
    let bench = Bench::new();
    let name = std::ffi::OsString::from_vec(b"out\xff".to_vec());
    let output = Some(bench.root().join(name));
    let mut options = bench.options();
    options.pipeline.output = output;
    let printed = printed(&options);
    assert!(printed.contains("is not UTF-8"), "{printed}");
}

#[test]
fn relative_paths_of_a_file_are_relative_to_it() {
    let bench = Bench::new();
    fs::create_dir(bench.at("etc")).expect("a directory");
    let path = bench.at("etc/t.toml");
    let text = "[[pipeline]]\ninput = \"../inbox\"\noutput = \"../outbox/./deep\"";
    fs::write(&path, text).expect("a file");
    let config = load(&Options { config: Some(path), ..Options::default() }).expect("it loads");
    assert_eq!(config.pipelines[0].input, bench.at("inbox"));
    assert_eq!(config.pipelines[0].output, bench.at("outbox/deep"));
}

#[test]
fn check_prints_a_configuration_that_means_the_same() {
    let bench = Bench::new();
    let mut check = Command::cargo_bin("tidemill").expect("the program");
    let (input, output) = (bench.at("inbox"), bench.at("outbox"));
    let ran = check
        .args(["check", "--all"])
        .args([input, output])
        .args(["--durability", "none"])
        .assert()
        .success();
    let printed = String::from_utf8(ran.get_output().stdout.clone()).expect("UTF-8");
    let note = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert!(note.starts_with("note: pipeline main: `durability = \"none\"`"), "{note}");
    assert_eq!(bench.load(&printed).expect("it loads").to_string(), printed);
    assert!(!bench.at("outbox").exists(), "check makes nothing");
}

#[test]
fn check_of_a_bad_configuration_exits_78_with_nothing_printed() {
    let bench = Bench::new();
    let file = bench.file("htpp = 1").config.expect("a file");
    let mut check = Command::cargo_bin("tidemill").expect("the program");
    let ran = check.arg("check").arg("--config").arg(file).assert().code(78).stdout("");
    let printed = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert!(printed.contains("write `http`") && !printed.contains('\u{1b}'), "{printed}");
}

#[test]
fn init_writes_the_annotated_file_and_never_overwrites() {
    let bench = Bench::new();
    let init = || {
        let mut command = Command::cargo_bin("tidemill").expect("the program");
        command.arg("init").current_dir(bench.root());
        command
    };
    let annotated = include_str!("../../config/tidemill.toml");
    init().assert().success().stdout(annotated);
    init().arg("new.toml").assert().success().stdout("");
    assert_eq!(fs::read_to_string(bench.at("new.toml")).expect("it is there"), annotated);
    init().arg("a-file").assert().code(78);
    assert_eq!(fs::read_to_string(bench.at("a-file")).expect("it is there"), "");
}
