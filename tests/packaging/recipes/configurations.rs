//! The files of `config/` that decompress, transcode and have several pipelines, each as it is shipped, on
//! files that the formats' own tools make and read.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    files::{Ended, Running, TestDir, tree, until},
    recipes::{configured, done},
};

/// Pipes a file through a tool that others pack files with.
fn piped(tool: &[&str], from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let mut command = Command::new(tool[0]);
    command.args(&tool[1..]).stdin(File::open(from).unwrap()).stderr(Stdio::inherit());
    done(command.stdout(File::create(to).unwrap()));
    assert!(to.metadata().unwrap().len() > 0, "{tool:?}");
}

/// What a tool unpacks a file to.
fn unpacked(tool: &str, path: &Path) -> Vec<u8> {
    done(Command::new(tool).arg("-dc").arg(path)).stdout
}

fn text(lines: usize, of: &str) -> String {
    let lines: Vec<_> =
        (0..lines).map(|line| format!("{of} {line} {:x}\n", line * 7_919)).collect();
    lines.concat()
}

/// The names below a directory, without the service's own.
fn names(dir: &Path) -> Vec<String> {
    let relative = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    let mut names: Vec<_> = tree(dir).iter().map(|path| relative(path)).collect();
    names.retain(|name| !name.starts_with(".tidemill"));
    names
}

fn once(place: &TestDir, config: &str) -> Ended {
    place.run(&["run", "--config", config, "--http", "off", "--once"])
}

#[test]
fn config_decompress_toml_unpacks_every_format_and_rejects_bombs_and_damage() {
    let place = TestDir::new();
    let config = configured(&place, "decompress.toml", &[]);
    let inbox = place.root().join("srv/inbox");
    let (packed, plain) = (inbox.join("packed"), inbox.join("plain"));
    let source = place.root().join("source");
    fs::write(&source, text(20_000, "a file")).unwrap();
    for (name, tool) in [
        ("a.csv.gz", &["gzip", "-c"][..]),
        ("by date/b.csv.xz", &["xz", "-c"]),
        ("c.csv.zst", &["zstd", "-qc"]),
        ("d.csv.bz2", &["bzip2", "-c"]),
        ("e.csv.lz4", &["lz4", "-qc"]),
        ("there.csv.gz", &["gzip", "-c"]),
    ] {
        piped(tool, &source, &packed.join(name));
    }
    // A file that another program made, one that is cut off, and one that would fill the disk.
    fs::write(plain.join("there.csv"), "of another program").unwrap();
    piped(&["head", "-c", "1000"], &packed.join("a.csv.gz"), &packed.join("cut.csv.gz"));
    fs::write(&source, vec![0; 20 << 20]).unwrap();
    piped(&["gzip", "-c"], &source, &packed.join("bomb.gz"));

    let ended = once(&place, &config);
    assert_eq!(ended.code, 65, "{ended:?}");
    let plain_names = ["a.csv", "by date/b.csv", "c.csv", "d.csv", "e.csv", "there.csv"];
    assert_eq!(names(&plain), plain_names);
    for name in &plain_names[..5] {
        assert!(fs::read(plain.join(name)).unwrap() == text(20_000, "a file").as_bytes(), "{name}");
    }
    assert_eq!(fs::read(plain.join("there.csv")).unwrap(), b"of another program");
    assert_eq!(names(&packed), ["there.csv.gz"], "skipped: {ended:?}");
    let rejected = ["bomb.gz", "bomb.gz.json", "cut.csv.gz", "cut.csv.gz.json"];
    assert_eq!(names(&inbox.join("rejected")), rejected);
    for reason in ["reason_code=ratio_limit", "reason_code=truncated"] {
        assert_eq!(ended.stderr.matches(reason).count(), 1, "{reason}: {ended:?}");
    }
    place.assert_clean();
}

#[test]
fn config_transcode_toml_makes_zstd_of_gzip_and_again_when_a_source_changes() {
    let place = TestDir::new();
    let config = configured(&place, "transcode.toml", &[]);
    let exports = place.root().join("srv/exports");
    let (from, to) = (exports.join("gzip"), exports.join("zstd"));
    let source = place.root().join("source");
    let export = |content: &str, name: &str| {
        fs::write(&source, content).unwrap();
        piped(&["gzip", "-c"], &source, &from.join(name));
    };
    let (first, second) = (text(30_000, "first"), text(10, "second"));
    export(&first, "2026/a.json.gz");
    export(&second, "b.json.gz");
    // Two members, as `cat` or a log that is appended to makes them.
    let both = [fs::read(from.join("2026/a.json.gz")), fs::read(from.join("b.json.gz"))];
    fs::write(from.join("both.json.gz"), both.map(Result::unwrap).concat()).unwrap();
    fs::write(from.join("notes.txt"), "not included").unwrap();
    let of = |name: &str| String::from_utf8(unpacked("zstd", &to.join(name))).unwrap();
    let is_made = ["2026/a.json.zst", "b.json.zst", "both.json.zst"];

    let ended = once(&place, &config);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(names(&to), is_made);
    assert!(of("2026/a.json.zst") == first);
    assert!(of("both.json.zst") == format!("{first}{second}"));
    assert_eq!(names(&from), ["2026/a.json.gz", "b.json.gz", "both.json.gz", "notes.txt"]);

    let before = fs::metadata(to.join("both.json.zst")).unwrap().modified().unwrap();
    export("changed\n", "b.json.gz");
    let ended = once(&place, &config);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("1 file published"), "{ended:?}");
    assert_eq!(names(&to), is_made);
    assert_eq!(of("b.json.zst"), "changed\n");
    assert_eq!(fs::metadata(to.join("both.json.zst")).unwrap().modified().unwrap(), before);
    place.assert_clean();
}

#[test]
fn config_several_toml_runs_its_three_pipelines_in_one_process() {
    let place = TestDir::new();
    // Its port may be another's, and ten seconds are long for a test.
    let changes = [("127.0.0.1:9464", "off"), ("settle = \"10s\"", "settle = \"1s\"")];
    let config = configured(&place, "several.toml", &changes);
    let data = place.root().join("data");
    let running = Running::start(&mut place.tidemill(&["run", "--config", &config]));
    until("all are ready", || running.log().matches("event=pipeline.ready").count() == 3);
    let source = place.root().join("source");
    let put = |path: &str, content: &str| {
        // Written elsewhere, and moved in under its name.
        fs::write(&source, content).unwrap();
        let path = data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::rename(&source, path).unwrap();
    };
    // One that passes through in parts, some that do not, and one that no pattern includes.
    let large = text(200_000, "raw");
    put("camera/in/1.raw", &large);
    put("instruments/in/t.csv", "a,b\n");
    put("instruments/in/runs/7/log", "of a run\n");
    put("instruments/in/other.txt", "not included\n");
    put("mail/in/box", "a message\n");
    let outputs = [
        ("camera/out/1.raw.zst", "zstd", large.as_str()),
        ("instruments/out/t.csv.xz", "xz", "a,b\n"),
        ("instruments/out/runs/7/log.xz", "xz", "of a run\n"),
        ("mail/out/box.gz", "gzip", "a message\n"),
    ];
    let events = || {
        let text = fs::read_to_string(place.root().join("var/lib/tidemill/events.jsonl"));
        text.unwrap_or_default().matches("\"outcome\":\"published\"").count()
    };
    until("all are acknowledged", || events() == outputs.len());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    for (path, tool, content) in outputs {
        assert!(unpacked(tool, &data.join(path)) == content.as_bytes(), "{path}");
    }
    let found: Vec<_> = ["camera/in", "camera/out", "instruments/in", "instruments/done"]
        .map(|dir| names(&data.join(dir)))
        .into();
    let wanted = [&[][..], &["1.raw.zst"], &["other.txt"], &["runs/7/log", "t.csv"]];
    assert_eq!(found, wanted);
    assert_eq!(names(&data.join("mail/in")), ["box"], "kept");
    assert_eq!(events(), outputs.len(), "each once");
    place.assert_clean();
}
