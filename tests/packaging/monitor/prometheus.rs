//! A real Prometheus that watches a busy service: an alert fires when the storage fails, and is
//! over when the place is well.
//!
//! It loads copies of the rules whose waits (`for`, `keep_firing_for`, `interval`) are a second
//! each; the expressions are those that are shipped.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    monitor::{
        dashboard,
        rules::{ALERTS, RULES},
        service::{Process, Service, get, has, place, read, until},
    },
    mounts::Mount,
    prove,
};

/// A Prometheus that scrapes one service each second.
struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    fn start(dir: &Path, target: SocketAddr) -> Self {
        fs::create_dir(dir).expect("directory");
        for (name, path) in [("rules.yml", RULES), ("alerts.yml", ALERTS)] {
            fs::write(dir.join(name), shortened(&read(path))).expect("write");
        }
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml, alerts.yml]\n\
             scrape_configs:\n\
             - job_name: tidemill\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(dir.join("prometheus.yml"), config).expect("write");
        let process = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=warn"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                fs::File::options().append(true).create(true).open(dir.join("log")).expect("log"),
            )
            .spawn()
            .expect("start");
        let process = Process(process);
        let mut address = None;
        until("Prometheus listens", || {
            address = listens(process.0.id());
            address.is_some()
        });
        let address = address.expect("an address");
        until("Prometheus is ready", || get(address, "/-/ready").is_some());
        Self { _process: process, address }
    }

    /// What its interface answers.
    fn ask(&self, path: &str) -> Value {
        let answer = get(self.address, path).unwrap_or_else(|| panic!("{path} is refused"));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The samples of a query.
    fn query(&self, query: &str) -> Vec<Value> {
        let data = self.ask(&format!("/api/v1/query?query={}", percent(query)));
        data["result"].as_array().expect("samples").clone()
    }

    fn fires(&self, alert: &str) -> bool {
        let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        !self.query(&query).is_empty()
    }
}

/// The rules with every wait shortened to a second.
fn shortened(rules: &str) -> String {
    let line = |line: &str| {
        let key = ["for: ", "keep_firing_for: ", "interval: "]
            .into_iter()
            .find(|key| line.trim_start().starts_with(key));
        let Some(key) = key else { return format!("{line}\n") };
        let indent = line.len() - line.trim_start().len();
        format!("{:indent$}{key}1s\n", "")
    };
    rules.lines().map(line).collect()
}

fn percent(query: &str) -> String {
    let mut text = String::with_capacity(3 * query.len());
    for byte in query.bytes() {
        text.push_str(&format!("%{byte:02X}"));
    }
    text
}

/// Where a process listens, as the kernel reports: it was asked for any free port.
fn listens(pid: u32) -> Option<SocketAddr> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let held: Vec<String> = links
        .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    sockets.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let inode = format!("socket:[{}]", columns.get(9)?);
        let is_listening = columns.get(3) == Some(&"0A") && held.contains(&inode);
        let port = columns.get(1)?.split(':').nth(1).filter(|_| is_listening)?;
        Some((Ipv4Addr::LOCALHOST, u16::from_str_radix(port, 16).ok()?).into())
    })
}

/// Names that a producer uses in turn: their outputs have room in the small file system.
const NAMES: u32 = 32;

/// A producer: puts one more small file into the input each time.
struct Producer {
    input: PathBuf,
    count: u32,
}

impl Producer {
    fn put(&mut self) {
        self.count += 1;
        let content = format!("file {}\n", self.count).repeat(200);
        fs::write(self.input.join(format!("{}.log", self.count % NAMES)), content).expect("write");
    }
}

/// Takes all the room that a file system has, also what the service frees or takes meanwhile.
fn fill(ballast: &Path) {
    let mut file = fs::File::options().append(true).create(true).open(ballast).expect("create");
    let error = io::copy(&mut io::repeat(1), &mut file).expect_err("room without end");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
}

#[test]
fn prometheus_fires_when_storage_is_unavailable_and_resolves_when_it_is_back() {
    if !has("prometheus") {
        return prove::skipped("a real Prometheus", "prometheus is not there");
    }
    let dir = place();
    let output = dir.path().join("out");
    let Some(_mount) = Mount::memory(&output, "1m") else { return };
    let state = ["--state-dir", "state", "--on-success", "delete", "--on-exists", "replace"];
    let service = Service::start(dir.path(), &state);
    let prometheus = Prometheus::start(&dir.path().join("prometheus"), service.address);
    let mut producer = Producer { input: dir.path().join("in"), count: 0 };

    until("the service is scraped and busy", || {
        producer.put();
        !prometheus.query("tidemill_files_total{outcome=\"published\"} > 10").is_empty()
            && !prometheus.query("pipeline:tidemill_output_bytes:ratio_rate5m > 0").is_empty()
    });
    assert!(!prometheus.fires("TidemillStorageUnavailable"));
    every_rule_is_evaluated(&prometheus);
    for query in dashboard::queries() {
        prometheus.query(&query);
    }

    let ballast = output.join("ballast");
    until("the storage is unavailable and the alert fires", || {
        // What was freed since is taken too.
        fill(&ballast.with_extension(producer.count.to_string()));
        producer.put();
        prometheus.fires("TidemillStorageUnavailable")
    });
    assert!(get(service.address, "/readyz").is_none(), "ready, with unavailable storage");

    for entry in fs::read_dir(&output).expect("list").map(|entry| entry.expect("entry").path()) {
        if entry.file_stem().is_some_and(|stem| stem == "ballast") {
            #[expect(clippy::disallowed_methods, reason = "the test makes room")]
            fs::remove_file(entry).expect("make room");
        }
    }
    until("the place is well and the alert is over", || {
        !prometheus.fires("TidemillStorageUnavailable")
    });
    let is_empty = || fs::read_dir(&producer.input).expect("list").next().is_none();
    until("every file is published", is_empty);
    assert!(prometheus.query("tidemill_files_total{outcome=\"quarantined\"} > 0").is_empty());
    assert!(get(service.address, "/readyz").is_some());
}

/// None has an error, and all were evaluated.
fn every_rule_is_evaluated(prometheus: &Prometheus) {
    let all = |data: &Value| -> Vec<Value> {
        let groups = data["groups"].as_array().expect("groups").iter();
        groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    };
    let mut rules = Vec::new();
    until("every rule is evaluated", || {
        rules = all(&prometheus.ask("/api/v1/rules"));
        rules.iter().all(|rule| rule["health"] != "unknown")
    });
    let written = [RULES, ALERTS].map(read).concat();
    assert_eq!(rules.len(), written.matches("        expr: ").count());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
