//! PostgreSQL's WAL: a real server archives its segments by the command of `config/wal.toml`, and
//! every segment can be restored.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    files::{Running, TestDir, decompressed, tree, until},
    prove,
    recipes::done,
};

/// A server of the user `postgres`, reached by a socket in its directory. Dropping it ends it.
struct Server {
    programs: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
}

/// Debian keeps the programs of each version by themselves.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
    let mut found: Vec<_> = versions.map(|entry| entry.unwrap().path().join("bin")).collect();
    found.sort();
    found.pop().unwrap()
}

impl Server {
    fn start(place: &TestDir, archive_command: &str) -> Self {
        let sockets = place.root().join("postgres");
        std::fs::create_dir(&sockets).unwrap();
        own(&sockets);
        let server = Self { programs: programs(), data: sockets.join("data"), sockets };
        done(
            server
                .command("initdb")
                .args(["--no-sync", "--auth=trust", "--pgdata"])
                .arg(&server.data),
        );
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\narchive_mode = on\narchive_command = '{archive_command}'\nshared_buffers = '1MB'\nmax_connections = 10\n",
            server.sockets.display()
        );
        std::fs::write(server.data.join("postgresql.auto.conf"), settings).unwrap();
        own(&server.data.join("postgresql.auto.conf"));
        let log = server.sockets.join("log");
        done(server.control("start").arg("--log").arg(log));
        server
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(self.programs.join(program))
            .current_dir(&self.sockets);
        command
    }

    /// `pg_ctl`, which knows the process by the number in its data directory.
    fn control(&self, action: &str) -> Command {
        let mut command = self.command("pg_ctl");
        command.args([action, "--wait", "--silent", "--pgdata"]).arg(&self.data);
        command
    }

    fn answers(&self, sql: &str) -> String {
        let mut command = self.command("psql");
        command.arg("--host").arg(&self.sockets).args(["--no-psqlrc", "-qtA", "--command", sql]);
        String::from_utf8(done(command.arg("postgres")).stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or is made to.
        drop(self.control("stop").args(["--mode", "immediate"]).output());
    }
}

fn own(path: &Path) {
    let id = |which| {
        let printed = done(Command::new("id").args([which, "postgres"])).stdout;
        String::from_utf8(printed).unwrap().trim().parse::<u32>().unwrap()
    };
    chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
}

/// The command as it stands in the configuration's comment, for these directories, and this program.
fn archive_command(config: &str, input: &Path, program: &Path) -> String {
    let line =
        config.lines().find_map(|line| line.strip_prefix("#   archive_command = '")).unwrap();
    let command = line.strip_suffix('\'').unwrap().strip_prefix("tidemill ").unwrap();
    let command = command.replace("/var/lib/tidemill/wal/in", input.to_str().unwrap());
    format!("{} {command}", program.display())
}

#[test]
fn every_segment_that_postgresql_archives_can_be_restored() {
    if !rustix::process::geteuid().is_root() {
        return prove::skipped("the archive command", "the server needs a user of its own: root");
    }
    let place = TestDir::new();
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    own(&place.input());
    let config = std::fs::read_to_string("config/wal.toml").unwrap();
    // Where the server's user may run it.
    let program = place.root().join("tidemill");
    std::fs::copy(env!("CARGO_BIN_EXE_tidemill"), &program).unwrap();
    let command = archive_command(&config, &place.input(), &program);
    let at = |name: &str| place.root().join(name).display().to_string();
    let config = config
        .replace("/var/lib/tidemill/wal/events.jsonl", &at("events.jsonl"))
        .replace("/var/lib/tidemill/wal/state", &at("state"))
        .replace("/var/lib/tidemill/wal/in", &at("in"))
        .replace("/srv/backup/wal", &at("out"))
        .replace("http = \"127.0.0.1:9465\"", "http = \"off\"");
    std::fs::write(place.root().join("wal.toml"), config).unwrap();
    let running = Running::start(&mut place.tidemill(&["run", "--config", "wal.toml"]));
    running.until_logged("event=pipeline.ready");

    let server = Server::start(&place, &command);
    server.answers("create table numbers (number integer)");
    let mut segments = Vec::new();
    for _ in 0..3 {
        server.answers("insert into numbers select generate_series(1, 1000)");
        segments.push(server.answers("select pg_walfile_name(pg_switch_wal())"));
    }
    for segment in &segments {
        let output = place.output().join(format!("{segment}.zst"));
        until(segment, || output.exists() && !place.input().join(segment).exists());
        // PostgreSQL keeps the newest itself: what was archived is what it has.
        let restored = decompressed(&output);
        assert_eq!(restored.len(), 16 << 20, "{segment}");
        let own = std::fs::read(server.data.join("pg_wal").join(segment));
        assert!(own.is_err() || own.unwrap() == restored, "{segment}");
    }
    // On its promotion a standby archives the last, incomplete segment of the old timeline.
    let partial = format!("{}.partial", segments[0]);
    let incomplete = place.root().join("incomplete");
    std::fs::write(&incomplete, "an incomplete segment").unwrap();
    let by_hand = command.replace("%p", incomplete.to_str().unwrap()).replace("%f", &partial);
    done(Command::new("sh").args(["-c", &by_hand]));
    let output = place.output().join(format!("{partial}.zst"));
    until(&partial, || output.exists() && !place.input().join(&partial).exists());
    assert_eq!(decompressed(&output), b"an incomplete segment");
    // A segment that is archived again, after a crash of the server for one, is no fault.
    let again = decompressed(&place.output().join(format!("{}.zst", segments[0])));
    std::fs::write(&incomplete, &again).unwrap();
    let by_hand = command.replace("%p", incomplete.to_str().unwrap()).replace("%f", &segments[0]);
    done(Command::new("sh").args(["-c", &by_hand]));
    let named = place.input().join(&segments[0]);
    until("the second delivery", || !named.exists());
    drop(server);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.quarantine()), Vec::<PathBuf>::new());
    assert_eq!(tree(&place.state().join("quarantine")), Vec::<PathBuf>::new());
    assert_eq!(place.published(format!("{}.zst", segments[0])), again);
}
