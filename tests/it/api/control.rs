//! An operator pauses, resumes, requeues and drains.

use rustix::process::Signal;

use crate::{
    api::client::{Service, TOKEN, post},
    files::TestDir,
};

#[test]
fn a_paused_service_takes_nothing_new_finishes_what_is_in_flight_and_says_so() {
    let service = Service::start_with("", &[], "transform=1*sleep(700)->off");
    service.place.put("in-flight", "x");
    service.get_until("/api/v1/work", |answer| {
        answer.json()["files"].as_array().is_some_and(|files| files.len() == 1)
    });
    assert_eq!(service.post("/api/v1/pause", "{}").json()["paused"][0], "main");
    service.place.put("new", "y");
    service.until_published(1);
    let ready = service.get("/readyz");
    assert_eq!((ready.status, &*ready.body), (503, "not ready: paused by the operator\n"));
    assert!(
        service
            .get("/metrics")
            .body
            .contains("tidemill_paused{pipeline=\"main\",reason=\"operator\"} 1\n")
    );
    // It is found and waits; a late event may cause another look at the other file.
    service.get_until("/api/v1/status", |answer| {
        answer.json()["pipelines"][0]["pending"].as_u64() >= Some(1)
    });
    assert_eq!(service.published(), 1);
    let status = service.get("/api/v1/status").json();
    assert_eq!(
        (&status["paused_by_operator"], &status["pipelines"][0]["paused"][0]["reason"]),
        (&true.into(), &"operator".into())
    );
    assert_eq!(service.post("/api/v1/resume", "{\"pipeline\":\"main\"}").status, 200);
    service.until_published(2);
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn a_paused_service_stops_as_any_other() {
    let service = Service::start("", &[]);
    service.post("/api/v1/pause", "{}");
    service.place.put("new", "y");
    service.get_until("/api/v1/status", |answer| answer.json()["pipelines"][0]["pending"] == 1);
    service.running.signal(Signal::TERM);
    let ended = service.running.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // The pause ends with its process.
    assert_eq!(service.place.once(&[]).code, 0);
    assert!(service.place.output().join("new.zst").exists());
}

#[test]
fn a_change_needs_the_token_or_the_socket() {
    let service = Service::start("", &[]);
    let wrong = TOKEN.replace('0', "1");
    for authorization in ["", &format!("Authorization: Bearer {wrong}\r\n")] {
        for what in ["pause", "drain", "rescan", "reload", "requeue"] {
            let path = format!("/api/v1/{what}");
            let answer = service.ask(&post(&path, authorization, "{}"));
            assert_eq!(answer.status, 401, "{answer:?}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
        }
    }
    let status = service.get("/api/v1/status").json();
    assert_eq!((&status["can_change"], &status["phase"]), (&false.into(), &"READY".into()));
    assert_eq!(service.post_at_socket("/api/v1/pause", "{}").status, 200);
    assert!(!service.running.log().contains(TOKEN), "the log has the token");
    let settings = std::fs::read_to_string(service.place.state().join("config.toml")).unwrap();
    assert!(!settings.contains(TOKEN), "{settings}");
}

#[test]
fn without_a_token_nothing_is_changed_over_tcp_and_it_says_what_to_do() {
    let place = TestDir::new();
    let running = place.watch(&["--http", "127.0.0.1:0"]);
    let log = running.log();
    let address = log.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let service = Service { place, running, address };
    let answer = service.post("/api/v1/drain", "{}");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("--admin-token-file"), "{answer:?}");
}

#[test]
fn a_token_that_is_none_keeps_the_service_from_starting() {
    let place = TestDir::new();
    std::fs::write(place.root().join("token"), "short\n").unwrap();
    for (file, message) in [("token", "16 to 1024 visible"), ("none", "cannot read it")] {
        let ended = place.run(&["run", "in", "out", "--admin-token-file", file]);
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains(message) && !ended.stderr.contains("short"), "{ended:?}");
    }
}

#[test]
fn a_quarantined_file_goes_back_by_its_number_and_other_numbers_are_reported() {
    let service = Service::start("transforms = \"gunzip\"\non_success = \"delete\"", &[]);
    service.place.put("sub/bad.gz", "no gzip at all");
    // The ledger has the record before the file moves: wait for the file.
    service.get_until("/api/v1/status", |answer| answer.json()["pipelines"][0]["quarantined"] == 1);
    let list = service.get("/api/v1/quarantine").json();
    let file = &list["files"][0];
    assert_eq!((&file["source"], &file["attempts"].is_u64()), (&"sub/bad.gz".into(), &true));
    assert_eq!((&file["stage"], &file["bytes"]), (&"transform".into(), &14.into()));
    assert_eq!(service.get("/api/v1/status").json()["pipelines"][0]["quarantine_files"], 1);
    let id = file["id"].as_i64().unwrap();
    let answer = service.post_at_socket("/api/v1/requeue", &format!("{{\"ids\":[{id},999999]}}"));
    let answer = answer.json();
    assert_eq!((&answer["requeued"], &answer["failed"][0]["id"]), (&1.into(), &999_999.into()));
    // It fails again, and has a new record.
    service.get_until("/api/v1/status", |answer| answer.json()["pipelines"][0]["quarantined"] == 2);
    let again = service.get("/api/v1/quarantine").json();
    assert_eq!(again["total"], 1, "{again}");
    assert_ne!(again["files"][0]["id"], id, "{again}");
    let all = service.post_at_socket("/api/v1/requeue", "{\"all\":true,\"pipeline\":\"main\"}");
    assert_eq!(all.json()["requeued"], 1, "{all:?}");
}

#[test]
fn quarantined_files_are_grouped_by_cause_and_a_group_is_requeued_alone() {
    let service = Service::start("transforms = \"gunzip\"\non_success = \"keep\"", &[]);
    for name in ["one.gz", "sub/two.gz"] {
        service.place.put(name, "no gzip at all");
    }
    service.place.put("cut.gz", [0x1f, 0x8b, 8, 0]);
    let is_quarantined = |number: u64| {
        service.get_until("/api/v1/quarantine", |answer| answer.json()["total"] == number);
    };
    is_quarantined(3);
    let list = service.get("/api/v1/quarantine").json();
    let groups = list["groups"].as_array().unwrap();
    let counts: Vec<_> = groups.iter().map(|group| group["files"].as_u64().unwrap()).collect();
    assert_eq!(counts, [2, 1], "{list}");
    let causes = [0, 1].map(|index: usize| groups[index]["cause"].as_str().unwrap().to_owned());
    for cause in &causes {
        assert!(cause.starts_with("`gunzip`: ") && !cause.contains(".gz"), "{cause}");
    }
    let hex = causes[0].bytes().fold(String::new(), |hex, byte| hex + &format!("%{byte:02x}"));
    let group = service.get(&format!("/api/v1/quarantine?cause={hex}")).json();
    assert_eq!((&group["total"], &group["matching"]), (&3.into(), &2.into()));
    let files = group["files"].as_array().unwrap();
    assert!(files.len() == 2 && files.iter().all(|file| file["cause"] == *causes[0]), "{group}");
    let requeue =
        |body: &serde_json::Value| service.post_at_socket("/api/v1/requeue", &body.to_string());
    let truncated = service.get("/api/v1/quarantine?reason_code=truncated").json();
    assert_eq!(truncated["matching"], 1, "{truncated}");
    assert_eq!(service.get("/api/v1/quarantine?reason_code=unheard_of").status, 400);
    let refused = requeue(&serde_json::json!({ "ids": [1], "cause": causes[0] }));
    assert_eq!(refused.status, 400, "{refused:?}");
    let none = requeue(&serde_json::json!({ "all": true, "cause": causes[0], "search": "cut" }));
    assert_eq!(none.json()["requeued"], 0, "{none:?}");
    let code = &groups[0]["reason_code"];
    assert_eq!(code, "corrupt", "{list}");
    let other = serde_json::json!({ "all": true, "cause": causes[0], "reason_code": "truncated" });
    assert_eq!(requeue(&other).json()["requeued"], 0, "no such group");
    let group = serde_json::json!({ "all": true, "cause": causes[0], "reason_code": code });
    let both = requeue(&group);
    assert_eq!(both.json()["requeued"], 2, "{both:?}");
    // They fail again.
    is_quarantined(3);
    let found = requeue(&serde_json::json!({ "all": true, "search": "CUT.gz" }));
    assert_eq!(found.json()["requeued"], 1, "{found:?}");
}

#[test]
fn a_drain_over_the_socket_is_as_sigterm_and_takes_the_socket_away() {
    let service = Service::start_with("", &[], "transform=1*sleep(6000)->off");
    service.place.put("slow", "x");
    service.get_until("/api/v1/work", |answer| !answer.json()["files"][0].is_null());
    let mut events = service.listen();
    assert_eq!(service.post_at_socket("/api/v1/drain", "{}").status, 202);
    let drain = loop {
        let status = events.until("status");
        if status["phase"] == "DRAINING" {
            break status["drain"].clone();
        }
    };
    assert_eq!(drain["unfinished_files"], 1, "{drain}");
    assert!(drain["deadline_left_seconds"].as_f64().unwrap() > 20.0, "{drain}");
    let refused = service.post_at_socket("/api/v1/pause", "{}");
    assert_eq!((refused.status, &refused.json()["error"]), (409, &"stopping".into()));
    let ended = service.running.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(service.place.output().join("slow.zst").exists());
    assert!(!service.place.state().join("admin.sock").exists());
}

#[test]
fn a_socket_that_a_killed_service_left_is_replaced() {
    let place = TestDir::new();
    let socket = place.state().join("admin.sock");
    let killed = place.watch(&[]);
    drop(killed);
    assert!(socket.exists(), "a kill leaves it");
    let running = place.watch(&[]);
    let ran = place.run(&["status", "--state-dir", "state", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
    assert!(!socket.exists());
}

#[test]
fn a_socket_path_that_is_too_long_is_reported_with_its_remedy() {
    let place = TestDir::new();
    let long = place.root().join("x".repeat(120));
    let named =
        place.run(&["run", "--config", "tidemill.toml", "--admin-socket", long.to_str().unwrap()]);
    assert_eq!(named.code, 78, "{named:?}");
    assert!(
        named.stderr.contains("the limit is 107") && named.stderr.contains("--admin-socket PATH")
    );
    // Without the default path the service only warns.
    let state = place.root().join("y".repeat(120));
    let running = place.watch(&["--state-dir", state.to_str().unwrap()]);
    assert!(running.log().contains("the limit is 107"), "{}", running.log());
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
}
