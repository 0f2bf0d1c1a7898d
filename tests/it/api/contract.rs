//! Every answer of a live service matches its document, and both have the same paths.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::api::{
    client::{Answer, Service},
    schema::{document, wrong},
};
use crate::files::until;

/// The document and the answers that were checked, so that none is left out.
struct Checked {
    document: Value,
    seen: BTreeSet<(String, String)>,
}

impl Checked {
    fn new() -> Self {
        Self { document: document(), seen: BTreeSet::new() }
    }

    /// Checks an answer against its schema in the document.
    fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let plain = path.split('?').next().unwrap();
        let documented =
            &self.document["paths"][plain][method]["responses"][answer.status.to_string()];
        assert!(documented.is_object(), "{method} {path}: {answer:?} is not in the document");
        let kind = answer.head.split("content-type: ").nth(1).unwrap();
        let kind = kind.split(['\r', ';']).next().unwrap();
        let schema = &documented["content"][kind]["schema"];
        assert!(schema.is_object(), "{method} {path}: {kind} is not in the document");
        if kind == "application/json" {
            let wrong = wrong(&self.document, schema, &answer.json());
            assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}");
        }
        self.seen.insert((plain.to_owned(), method.to_owned()));
    }

    /// Checks the data of an event against the schema of this name.
    fn check_event(&self, name: &str, data: &Value) {
        let schema = &self.document["components"]["schemas"][name];
        let wrong = wrong(&self.document, schema, data);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

#[test]
fn the_document_has_every_code_of_a_reason() {
    let codes = &document()["components"]["schemas"]["ReasonCode"]["enum"];
    assert_eq!(*codes, serde_json::json!(tidemill::reason::ReasonCode::WORDS));
}

/// Starts a service with published, skipped and quarantined files.
fn with_everything() -> Service {
    let service = Service::start("on_exists = \"skip\"\ntransforms = \"gunzip\"", &[]);
    std::fs::write(service.place.output().join("taken"), "another's").unwrap();
    // An empty gzip file: a header, an empty block, a sum and a length.
    let empty = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0][..], &[0; 8]].concat();
    service.place.put("good.gz", &empty);
    service.place.put("taken.gz", &empty);
    service.place.put("bad.gz", "no gzip at all");
    service.get_until("/api/v1/status", |answer| {
        let pipeline = &answer.json()["pipelines"][0];
        let at_least_one = |key: &str| pipeline[key].as_u64() >= Some(1);
        ["published", "skipped", "quarantined"].into_iter().all(at_least_one)
    });
    service
}

#[test]
fn every_answer_matches_the_document() {
    let service = with_everything();
    let mut checked = Checked::new();
    let bad = service.get("/api/v1/quarantine").json()["files"][0]["id"].as_i64().unwrap();
    for path in [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/openapi.json",
        "/api/v1/status",
        "/api/v1/work",
        "/api/v1/series",
        "/api/v1/outcomes",
        "/api/v1/outcomes?limit=1",
        "/api/v1/outcomes?state=lost",
        "/api/v1/outcomes/export?format=csv",
        "/api/v1/outcomes/export?format=jsonl&state=done",
        "/api/v1/outcomes/export?format=xml",
        "/api/v1/config",
        "/api/v1/quarantine",
        "/api/v1/quarantine?limit=0",
        "/api/v1/explain?path=good.gz",
        "/api/v1/explain",
    ] {
        checked.check("get", path, &service.get(path));
    }
    for path in ["pause", "resume", "rescan", "reload", "requeue"] {
        let path = format!("/api/v1/{path}");
        for body in ["{}", "[", "{\"pipeline\":\"none\",\"all\":true}", "{\"pipeline\":\"none\"}"] {
            checked.check("post", &path, &service.post(&path, body));
        }
    }
    let ids = format!("{{\"ids\":[{bad},999]}}");
    checked.check("post", "/api/v1/requeue", &service.post("/api/v1/requeue", &ids));
    let name = "/api/v1/work";
    let other = service.ask("GET /api/v1/work HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(other.status, 403);
    checked.check("get", name, &other);
    let none = service.ask(&crate::api::client::post("/api/v1/drain", "", "{}"));
    assert_eq!(none.status, 401);
    checked.check("post", "/api/v1/drain", &none);
    checked.check("post", "/api/v1/drain", &service.post_at_socket("/api/v1/drain", "{}"));
    // The stream has a test of its own.
    checked.seen.insert(("/api/v1/stream".to_owned(), "get".to_owned()));
    let paths = checked.document["paths"].as_object().unwrap().iter();
    let documented: BTreeSet<_> = paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(checked.seen, documented, "the document has paths that were not tried");
}

#[test]
fn the_stream_has_states_outcomes_and_points_as_the_document_says() {
    let service = Service::start("", &[]);
    let checked = Checked::new();
    let mut events = service.listen();
    let (name, status) = events.next();
    assert_eq!(name, "status", "the state comes first, at once");
    checked.check_event("Status", &status);
    checked.check_event("Work", &events.until("work"));
    service.place.put("a.log", "hello");
    let outcome = events.until("outcome");
    checked.check_event("Outcome", &outcome);
    assert_eq!(outcome["source"], "a.log");
    assert_eq!((&outcome["state"], &outcome["attempts"]), (&"published".into(), &1.into()));
    assert!(outcome["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{outcome}");
    // One interval of the series.
    let point = events.until("point");
    checked.check_event("Point", &point);
    assert_eq!(service.get("/api/v1/series").json()["points"][0], point);
    assert_eq!(
        (&point["pipelines"][0]["name"], &point["pipelines"][0]["files"]),
        (&"main".into(), &1.into())
    );
    let page = service.get("/api/v1/outcomes?search=A.LOG").json();
    assert_eq!(page["outcomes"][0]["id"], outcome["id"]);
}

#[test]
fn the_history_is_paged_and_searched() {
    let service = Service::start("", &[]);
    for number in 0..5 {
        service.place.put(format!("d/{number}.log"), "x");
    }
    service.until_published(5);
    let mut found = Vec::new();
    let mut next = String::new();
    for _ in 0..3 {
        let page = service.get(&format!("/api/v1/outcomes?limit=2{next}")).json();
        let outcomes = page["outcomes"].as_array().unwrap();
        assert!(outcomes.len() <= 2, "{page}");
        found.extend(outcomes.iter().map(|one| one["source"].as_str().unwrap().to_owned()));
        let Some(before) = page["next_before"].as_i64() else { break };
        next = format!("&before={before}");
    }
    found.sort();
    assert_eq!(found, ["d/0.log", "d/1.log", "d/2.log", "d/3.log", "d/4.log"]);
    let count = |query: &str| {
        let page = service.get(&format!("/api/v1/outcomes?{query}")).json();
        page["outcomes"].as_array().unwrap().len()
    };
    assert_eq!(count("search=3.log.zst"), 1, "the output's name is looked at too");
    assert_eq!((count("state=done"), count("state=quarantined"), count("pipeline=no")), (5, 0, 0));
}

#[test]
fn explain_reveals_nothing_outside_the_pipelines() {
    use std::os::unix::fs::symlink;
    let service = with_everything();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("real")).unwrap();
    std::fs::write(outside.path().join("real/x"), "secret").unwrap();
    symlink("real", outside.path().join("link")).unwrap();
    let explain = |path: &str| service.get(&format!("/api/v1/explain?path={path}")).body;
    let explained = |name: &str| {
        let path = outside.path().join(name).display().to_string();
        explain(&path).replace(&path, "PATH")
    };
    assert!(explained("link/x").contains("PATH: is in no input and no output"));
    assert_eq!(explained("link/x"), explained("no/such/file"));
    symlink(outside.path(), service.place.input().join("way")).unwrap();
    assert_eq!(
        explain("way/real/x").replace("real/x", "PATH"),
        explain("way/none/x").replace("none/x", "PATH")
    );
    assert!(explain("../x").contains("malformed"));
}

/// It looked below every input that the ledger knows.
#[test]
fn explain_reveals_nothing_of_a_removed_pipeline() {
    let removed = tempfile::tempdir().unwrap();
    let (path, text) = (removed.path().display(), removed.path().display().to_string());
    std::fs::write(removed.path().join("x"), "secret").unwrap();
    let name = "name = \"main\"";
    let more = format!("[[pipeline]]\nname = \"removed\"\ninput = \"{path}\"\noutput = \"out2\"");
    let more =
        format!("{more}\ntransforms = \"unzstd\"\non_success = \"delete\"\nquarantine = \"q\"");
    let service = Service::start(&format!("{name}\n{more}"), &["--sandbox", "off"]);
    let explain_at = |path: &str| {
        service.get(&format!("/api/v1/explain?path={path}")).body.replace(path, "PATH")
    };
    let explain = |name: &str| explain_at(&format!("{path}/{name}"));
    std::fs::write(removed.path().join("damaged.zst"), "no zstd").unwrap();
    let kept_at = service.place.root().join("q/damaged.zst");
    until("it is in quarantine", || kept_at.exists());
    let kept_at = kept_at.to_str().unwrap();
    let is_explained = || explain_at(kept_at).contains("is in quarantine");
    until("its record is there", is_explained);
    assert!(!explain("x").contains("is in no input"), "{}", explain("x"));
    service.place.configure(name);
    service.running.signal(rustix::process::Signal::HUP);
    until("it is removed", || service.running.log().contains("event=config.reloaded"));
    assert!(explain("x").contains("PATH: is in no input and no output"), "{}", explain("x"));
    assert_eq!(explain("x"), explain("no/such/file"));
    assert_eq!(explain("x"), explain_at(kept_at));
    assert!(!explain("x").contains(&text), "{}", explain("x"));
}

/// The page's `% busy` is the difference of two of these times: counted at a file's end, they would show 0 %
/// while it lasts, and then more than 100 %.
#[test]
fn the_time_that_stages_work_on_a_large_file_is_shown_before_its_end() {
    for (transforms, held, stages) in [
        ("zstd", "read=8*off->pause", &["read", "transform", "write"][..]),
        // Copied by the kernel, in pieces of 8 MiB; the first of these is the attempt to share its blocks.
        ("copy", "write=3*off->pause", &["write"]),
    ] {
        let service = Service::start_with(&format!("transforms = {transforms:?}"), &[], held);
        let path = service.place.put("large", vec![b'x'; 32 << 20]);
        let copy = service.place.root().join("shared");
        let shares = Command::new("cp").arg("--reflink=always").args([&path, &copy]).output();
        if transforms == "copy" && shares.unwrap().status.success() {
            // The whole content is there at once.
            continue;
        }
        let is_shown = |answer: &Answer, name: &&str| {
            let status = answer.json();
            let mut all = status["stages"].as_array().unwrap().iter();
            let stage = all.find(|stage| stage["stage"] == *name).unwrap();
            assert_eq!(stage["files"], 0, "{transforms}: its end is held up: {stage}");
            stage["busy_seconds"].as_f64() > Some(0.0)
        };
        service
            .get_until("/api/v1/status", |answer| stages.iter().all(|name| is_shown(answer, name)));
    }
}

/// A service that waited for its disk or for a program showed no stage that was busy.
#[test]
fn the_time_of_a_small_file_that_is_held_up_is_shown_while_it_passes() {
    const PROGRAM: &str = "transforms = \"exec:p\"\n[exec.p]\ncommand = [\"/bin/sleep\", \"1000\"]";
    for (lines, held, stage) in [
        (PROGRAM, "", "transform"),
        ("", "commit::sync=pause", "commit"),
        ("", "commit::directory=pause", "commit"),
        ("", "commit::acknowledge=pause", "commit"),
        ("", "events::sync=pause", "commit"),
        ("on_success = \"delete\"", "dispose=pause", "dispose"),
    ] {
        let service = Service::start_with(lines, &["--events", "events"], held);
        service.place.put("small", "content");
        // Far more than the stages need for it.
        service.get_until("/api/v1/status", |answer| {
            let status = answer.json();
            let all = status["stages"].as_array().unwrap();
            let held_up = all.iter().find(|one| one["stage"] == stage).unwrap();
            held_up["busy_seconds"].as_f64() > Some(1.0)
        });
    }
}

#[test]
fn the_metrics_count_an_output_as_published_when_its_source_cannot_be_removed() {
    let service = Service::start_with("on_success = \"delete\"", &[], "dispose=return(ebusy)");
    let metric = |answer: &Answer, name: &str| {
        let line = answer.body.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let of =
        |outcome: &str| format!("tidemill_files_total{{pipeline=\"main\",outcome=\"{outcome}\"}}");
    service.place.put("a", "content");
    let metrics = service.get_until("/metrics", |answer| metric(answer, &of("quarantined")) != "0");
    let counts = ["published", "quarantined"].map(|name| metric(&metrics, &of(name)));
    assert_eq!(counts, ["1", "1"], "{}", metrics.body);
    assert_ne!(metric(&metrics, &of("deferred")), "0", "{}", metrics.body);
    for name in ["tidemill_output_bytes_total", "tidemill_last_published"] {
        assert_ne!(metric(&metrics, name), "0", "{}", metrics.body);
    }
}
