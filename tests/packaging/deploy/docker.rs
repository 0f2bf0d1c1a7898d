//! The image's recipe. No Docker engine runs in the tests: the recipe is read, its context is laid out as
//! the engine would, and the sources in it are checked by the compiler.

use std::{path::Path, process::Command};

use crate::{
    deploy::{output, root, text},
    files::{Running, TestDir, tree},
};

const RECIPE: &str = "deploy/docker/Dockerfile";

/// The instructions of each stage: word and arguments.
pub fn stages() -> Vec<Vec<(String, String)>> {
    let whole = text(RECIPE).replace("\\\n", " ");
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for line in whole.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap();
        assert_eq!(word, word.to_uppercase(), "{line}");
        if word == "FROM" {
            stages.push(Vec::new());
        }
        let stage = stages.last_mut().unwrap();
        stage.push((word.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// The arguments of an instruction that a stage has once.
pub fn only(stage: &[(String, String)], word: &str) -> String {
    let mut found = stage.iter().filter(|(it, _)| it == word);
    let (_, rest) = found.next().unwrap_or_else(|| panic!("no {word}"));
    assert_eq!(found.next(), None, "{word} is there twice");
    rest.clone()
}

/// The words of an instruction in its form without a shell.
pub fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json} needs a shell: {error}"))
}

/// The manifest of the other crate.
const MEMBER: &str = "src/lifecycle/Cargo.toml";

/// What `COPY` takes from the context, each once.
fn copied() -> Vec<String> {
    let stages = stages();
    let copies = stages
        .iter()
        .flatten()
        .filter(|(word, rest)| word == "COPY" && !rest.starts_with("--from"));
    copies
        .flat_map(|(_, rest)| {
            let mut paths: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
            paths.pop();
            paths
        })
        // The manifest for the dependencies' layer comes again with the rest of `src`.
        .filter(|path| path != MEMBER)
        .collect()
}

#[test]
fn what_the_recipe_copies_is_there_and_nothing_else_is_sent() {
    let ignore = text(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out at first");
    let mut sent: Vec<_> = lines.map(|line| line.strip_prefix('!').unwrap().to_owned()).collect();
    let mut copied = copied();
    for path in &copied {
        assert!(root().join(path).exists(), "{path}");
    }
    sent.sort();
    copied.sort();
    assert_eq!(sent, copied);
}

#[test]
fn the_image_runs_as_no_root_and_stops_by_a_drain() {
    let stages = stages();
    let last = stages.last().unwrap();
    let user = only(last, "USER");
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(
        ids.len() == 2 && ids.iter().all(|id| *id >= 10_000),
        "{user}: Kubernetes asks for numbers"
    );
    assert_eq!(only(last, "STOPSIGNAL"), "SIGTERM");
    let after_user = last.iter().skip_while(|(word, _)| word != "USER").skip(1);
    assert!(after_user.clone().all(|(word, _)| !["RUN", "COPY", "ADD"].contains(&&**word)));
    for (word, rest) in stages.iter().flatten() {
        let from = word == "FROM" && !rest.starts_with("docker.io/library/");
        assert!(word != "ADD" && !from && !rest.contains(":latest"), "{word} {rest}");
    }
    let given = stages[0].iter().find(|(word, _)| word == "RUN").unwrap();
    assert!(given.1.contains("rm -rf /var/lib/apt/lists"), "{given:?}");
    let chown = stages[0].iter().any(|(_, rest)| rest.contains(&format!("chown -R {user}")));
    assert!(chown, "the volumes are not of {user}");
}

#[test]
fn the_image_builds_with_the_rust_of_the_manifest() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    let from = only(&stages()[0], "FROM");
    assert!(from.contains(&format!("rust:{version}-")), "{from}");
    let tag = format!("image: tidemill:{}", env!("CARGO_PKG_VERSION"));
    for path in ["docker/compose.yaml", "kubernetes/deployment.yaml", "kubernetes/statefulset.yaml"]
    {
        let text = text(&format!("deploy/{path}"));
        let images = text.lines().map(str::trim).filter(|line| line.starts_with("image:"));
        // That of the init container, whose command the program's image may lack.
        let images = images.filter(|line| *line != "image: busybox:1.37");
        assert!(images.clone().count() > 0 && images.clone().all(|line| line == tag), "{path}");
    }
}

#[test]
fn the_commands_of_the_image_are_commands_of_the_program() {
    let stages = stages();
    let last = stages.last().unwrap();
    assert_eq!(words(&only(last, "ENTRYPOINT")), ["/usr/bin/tidemill"]);
    let place = TestDir::new();
    let here = |word: &String| match word.as_str() {
        "/in" | "/out" | "/state" => format!("{}{word}", place.root().display()),
        word => word.to_owned(),
    };
    let run: Vec<String> = words(&only(last, "CMD")).iter().map(here).collect();
    assert_eq!(run[0], "run");
    let mut check = vec!["check"];
    check.extend(run[1..].iter().map(String::as_str));
    let checked = place.run(&check);
    assert_eq!(checked.code, 0, "{checked:?}");

    let health = only(last, "HEALTHCHECK");
    let health = words(health.split_once("CMD ").unwrap().1);
    assert_eq!(health[0], "/usr/bin/tidemill");
    let health: Vec<String> = health[1..].iter().map(here).collect();
    let health: Vec<&str> = health.iter().map(String::as_str).collect();
    assert_ne!(place.run(&health).code, 0, "nothing runs");
    let args: Vec<&str> = run
        .iter()
        .map(|word| if word.starts_with("0.0.0.0") { "127.0.0.1:0" } else { word })
        .collect();
    let running = Running::start(place.tidemill(&args).env("RUST_LOG", "info"));
    running.until_logged("\"READY\"");
    let healthy = place.run(&health);
    assert_eq!(healthy.code, 0, "{healthy:?}");
    assert_eq!(running.stop().code, 0);
}

/// What is sent to the engine suffices: the manifest and its targets, and all that the sources include.
#[test]
fn the_context_has_all_that_the_build_needs() {
    let place = TestDir::new();
    let context = place.root().join("context");
    std::fs::create_dir(&context).unwrap();
    for path in copied() {
        output(Command::new("cp").arg("-r").arg(root().join(path)).arg(&context));
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]);
    let json = output(cargo.arg("--manifest-path").arg(context.join("Cargo.toml")));
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    for package in parsed["packages"].as_array().unwrap() {
        for target in package["targets"].as_array().unwrap() {
            let source = Path::new(target["src_path"].as_str().unwrap());
            assert!(source.exists(), "{}", source.display());
        }
    }
    let mut included = 0;
    for path in tree(&context.join("src")) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for rest in text.split("include_").skip(1) {
            let Some((_, rest)) = rest.split_once("!(\"").filter(|(kind, _)| kind.len() <= 5)
            else {
                continue;
            };
            let wanted = path.parent().unwrap().join(rest.split('"').next().unwrap());
            assert!(wanted.exists(), "{} includes {}", path.display(), wanted.display());
            included += 1;
        }
    }
    assert!(included >= 1, "the annotated configuration is included");
    let build = "touch src/main.rs src/lib.rs src/lifecycle/lib.rs \
                 && cargo build --locked --features age --profile dist --bin tidemill";
    assert!(stages()[0].iter().any(|(_, rest)| rest == build));
}

/// The dependencies' layer: the manifest, and a target for each that it names.
#[test]
fn the_dependencies_are_built_before_the_sources_are_copied() {
    let stage = &stages()[0];
    let at = |what: &str| {
        let found =
            stage.iter().position(|(word, rest)| format!("{word} {rest}").starts_with(what));
        found.unwrap_or_else(|| panic!("no {what}"))
    };
    let layer = at("RUN mkdir benches");
    assert!(at("COPY Cargo.toml Cargo.lock") < layer && layer < at("COPY src src"));
    assert!(at(&format!("COPY {MEMBER} src/lifecycle/")) < layer);
    let place = TestDir::new();
    std::fs::create_dir_all(place.root().join("src/lifecycle")).unwrap();
    for file in ["Cargo.toml", "Cargo.lock", MEMBER] {
        output(Command::new("cp").arg(root().join(file)).arg(place.root().join(file)));
    }
    let (makes, rest) = stage[layer].1.split_once("&& cargo build").unwrap();
    assert!(rest.contains("rm -r src benches"), "the empty targets go");
    let script = format!("cd '{}' && {makes}", place.root().display());
    output(Command::new("sh").args(["-ec", &script]));
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]);
    let metadata = output(cargo.arg("--manifest-path").arg(place.root().join("Cargo.toml")));
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for (package, kinds) in
        [("tidemill", &["lib", "bin", "bench"][..]), ("tidemill-lifecycle", &["lib"])]
    {
        let package = packages.iter().find(|found| found["name"] == package).unwrap();
        let targets = package["targets"].as_array().unwrap();
        for kind in kinds {
            let has = |target: &&serde_json::Value| target["kind"][0] == *kind;
            let target =
                targets.iter().find(has).unwrap_or_else(|| panic!("no {kind}: {targets:?}"));
            assert!(Path::new(target["src_path"].as_str().unwrap()).exists(), "{kind}");
        }
    }
}

#[test]
fn the_compose_file_gives_the_container_no_more_than_it_needs() {
    let script = "import json, sys, yaml\nprint(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let python = root().join("target/test-python/bin/python");
    let json = output(Command::new(python).args(["-c", script, "deploy/docker/compose.yaml"]));
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let service = &parsed["services"]["tidemill"];
    assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]));
    assert_eq!((&service["read_only"], &service["restart"]), (&true.into(), &"on-failure".into()));
    let build = &service["build"];
    let context = root().join("deploy/docker").join(build["context"].as_str().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file());
    // Whatever the command of the image names is mounted.
    let stages = stages();
    let volumes = service["volumes"].as_array().unwrap();
    for word in words(&only(stages.last().unwrap(), "CMD")).iter().filter(|it| it.starts_with('/'))
    {
        let mounted = volumes.iter().any(|it| it.as_str().unwrap().ends_with(&format!(":{word}")));
        assert!(mounted, "{word}");
    }
}
