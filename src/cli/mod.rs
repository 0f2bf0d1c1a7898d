//! The command line.
#![expect(clippy::all, clippy::pedantic, reason = "temporary")]
use crate::{config::*, error::Exit, lifecycle::Signals, limits, policy::*, service};
use std::path::PathBuf;
pub fn main() -> Exit {
    #[cfg(feature = "failpoints")]
    let _s = fail::FailScenario::setup();
    let args: Vec<String> = std::env::args().collect();
    let get = |name: &str| args.iter().position(|a| a == name).map(|i| args[i + 1].clone());
    let abs = |p: &str| { std::fs::create_dir_all(p).unwrap(); std::fs::canonicalize(p).unwrap() };
    let (input, output) = (abs(&args[2]), abs(&args[3]));
    let once = args.iter().any(|a| a == "--once");
    crate::observe::init_logs(LogFormat::Text, if once { "warn" } else { "info" });
    let config = Config {
        state_dir: output.join(".tidemill"),
        http: if once { Http::Off } else { Http::Default },
        events: get("--events").map(PathBuf::from),
        shutdown_deadline: limits::SHUTDOWN_DEADLINE,
        log_format: LogFormat::Text,
        limits: Limits { memory_bytes: 32 << 20, files: 512, workers: 2 },
        once,
        pipelines: vec![Pipeline {
            name: "main".into(),
            input: input.clone(),
            output: output.clone(),
            steps: get("--steps").unwrap_or("zstd".into()).parse().unwrap(),
            on_success: get("--on-success").unwrap_or("keep".into()).parse().unwrap(),
            on_exists: get("--on-exists").unwrap_or("update".into()).parse().unwrap(),
            filter: Filter::new(&[], &[]).unwrap(),
            settle: Settle::Auto,
            min_age: Default::default(),
            marker: None,
            durability: get("--durability").unwrap_or("fsync".into()).parse().unwrap(),
            attempts: 3,
            backoff: limits::BACKOFF,
            rescan: limits::RESCAN,
            quarantine: output.join(".tidemill/quarantine/main"),
            bounds: Bounds { output_bytes: u64::MAX, ratio: 2000 },
        }],
    };
    let signals = Signals::register().unwrap();
    service::run(&config, signals)
}
