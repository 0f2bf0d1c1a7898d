//! Uploads over SFTP into the input of a running service: a real `sshd` on loopback, and clients
//! that upload under another name and rename, each in its own way.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    files::{Running, TestDir, tree, until},
    prove,
    recipes::{configured, done},
};

const FILES: usize = 40;

/// An SSH server for the user who runs the tests. Dropping it ends it.
struct Server {
    _running: Running,
    port: u16,
    key: PathBuf,
    user: String,
}

impl Server {
    /// `None` where it cannot be run here.
    fn start(dir: &Path) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let (host_key, key) = (dir.join("host_key"), dir.join("key"));
        for path in [&host_key, &key] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path);
            command.status().ok().filter(std::process::ExitStatus::success)?;
        }
        fs::copy(key.with_extension("pub"), dir.join("authorized")).unwrap();
        // What sshd asks for where it is started by root, and Debian's service makes.
        fs::create_dir_all("/run/sshd").ok();
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n\
             Subsystem sftp internal-sftp\n",
            host_key.display(),
            dir.join("authorized").display()
        );
        let file = dir.join("sshd_config");
        fs::write(&file, config).unwrap();
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let running = Running::start(Command::new(sshd).args(["-D", "-e", "-f"]).arg(file));
        until("sshd listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap().trim().to_owned();
        Some(Self { _running: running, port, key, user })
    }

    fn options(&self) -> Vec<String> {
        let key = self.key.display();
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"];
        let options = options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]);
        options.chain(["-i".to_owned(), key.to_string(), "-q".to_owned()]).collect()
    }

    /// Starts OpenSSH's `sftp` with these options and these commands.
    fn start_sftp(&self, options: &[&str], batch: &str) -> Child {
        let mut command = Command::new("sftp");
        command.args(self.options()).args(["-P", &self.port.to_string(), "-b", "-"]).args(options);
        command.arg(format!("{}@127.0.0.1", self.user)).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), batch.as_bytes()).unwrap();
        child
    }

    /// Runs these commands of OpenSSH's `sftp`.
    fn sftp(&self, batch: &str) {
        let mut child = self.start_sftp(&[], batch);
        assert!(child.wait().unwrap().success(), "sftp: {batch}");
    }

    /// Uploads a part of a file: the client is killed in the middle, and the session breaks off.
    fn break_off(&self, from: &Path, to: &Path) {
        let size = fs::metadata(from).unwrap().len();
        let put = format!("put {} {}\n", from.display(), to.display());
        // 4 Mbit/s: some seconds for the whole file.
        let mut child = self.start_sftp(&["-l", "4000"], &put);
        until("a part is there", || fs::metadata(to).is_ok_and(|found| found.len() > 0));
        child.kill().unwrap();
        child.wait().unwrap();
        let part = fs::metadata(to).unwrap().len();
        assert!(part < size, "the upload was whole before it broke off: {part} of {size}");
    }

    /// Runs these commands of `lftp`; whether there is one.
    fn lftp(&self, script: &str) -> bool {
        let program = format!("ssh -a -x {}", self.options().join(" "));
        let script = format!(
            "set sftp:connect-program \"{program}\"; set sftp:auto-confirm yes; set cmd:fail-exit yes; \
             open sftp://{}:@127.0.0.1:{}; {script}",
            self.user, self.port
        );
        match Command::new("lftp").args(["-c", &script]).status() {
            Ok(status) => {
                assert!(status.success(), "lftp: {script}");
                true
            }
            Err(_) => false,
        }
    }
}

/// Files to upload, and the outputs they are to have.
fn files(place: &TestDir) -> (PathBuf, Vec<PathBuf>) {
    let dir = place.root().join("source");
    fs::create_dir(&dir).unwrap();
    let mut expected = Vec::new();
    for number in 0..FILES {
        let path = dir.join(format!("order{number}.csv"));
        fs::write(&path, format!("order {number}\n").repeat(1 + number * 200)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        expected.push(PathBuf::from(format!("order{number}.csv.zst")));
    }
    expected.sort();
    (dir, expected)
}

fn uploads(name: &str, upload: impl Fn(&Server, &Path, &Path) -> bool) {
    for on_success in ["keep", "delete", "archive:processed"] {
        let place = TestDir::new();
        let Some(server) = Server::start(&place.root().join("ssh")) else {
            return prove::skipped(name, "openssh-server or openssh-client is not installed");
        };
        let (source, expected) = files(&place);
        let running = place.watch(&["--on-success", on_success]);
        if !upload(&server, &source, &place.input()) {
            return prove::skipped(name, "the client is not installed");
        }
        let outputs = || -> Vec<PathBuf> {
            let out = place.output();
            tree(&out).iter().map(|path| path.strip_prefix(&out).unwrap().to_path_buf()).collect()
        };
        until("all are published", || outputs().len() >= FILES);
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(outputs(), expected, "{on_success}");
        assert_eq!(ended.stderr.matches("msg=published ").count(), FILES, "{on_success}");
        assert_eq!(tree(&place.input()).len(), if on_success == "keep" { FILES } else { 0 });
    }
}

#[test]
fn an_upload_as_filepart_that_is_renamed_is_published_once() {
    let name = "an_upload_as_filepart_that_is_renamed_is_published_once";
    uploads(name, |server, source, input| {
        // WinSCP's way, with the time and mode that it sets after the upload.
        let line = |number: usize| {
            let (file, to) = (format!("order{number}.csv"), input.display());
            format!(
                "put -p {}/{file} {to}/{file}.filepart\nchmod 600 {to}/{file}.filepart\n\
                 rename {to}/{file}.filepart {to}/{file}\n",
                source.display()
            )
        };
        server.sftp(&(0..FILES).map(line).collect::<String>());
        true
    });
}

#[test]
fn an_upload_under_its_final_name_is_published_once() {
    let name = "an_upload_under_its_final_name_is_published_once";
    uploads(name, |server, source, input| {
        server.sftp(&format!("put -p {}/* {}/\n", source.display(), input.display()));
        true
    });
}

#[test]
fn an_upload_of_lftp_with_temporary_names_is_published_once() {
    let name = "an_upload_of_lftp_with_temporary_names_is_published_once";
    uploads(name, |server, source, input| {
        let (source, input) = (source.display(), input.display());
        let temporary = "set xfer:use-temp-file yes; set xfer:temp-file-name .in.*";
        server.lftp(&format!("{temporary}; mput -O {input} {source}/*"))
    });
}

/// The lines of an events file that has no line of a file in flight.
fn events(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn config_sftp_toml_takes_uploads_that_broke_off_when_they_are_whole() {
    let name = "config_sftp_toml_takes_uploads_that_broke_off_when_they_are_whole";
    let place = TestDir::new();
    let Some(server) = Server::start(&place.root().join("ssh")) else {
        return prove::skipped(name, "openssh-server or openssh-client is not installed");
    };
    let config = configured(&place, "sftp.toml", &[]);
    let srv = place.root().join("srv");
    let (incoming, ready) = (srv.join("sftp/incoming"), srv.join("orders/ready"));
    let at = |name: &str| incoming.join(name);
    let order = |day: u32| {
        let path = place.root().join(format!("day{day}.csv"));
        let lines = (0..150_000).map(|line| format!("{day};{line};{:x}\n", line * 7_919));
        fs::write(&path, lines.collect::<Vec<_>>().concat()).unwrap();
        path
    };
    let (first, second) = (order(1), order(2));
    let marker = place.root().join("marker");
    fs::write(&marker, "").unwrap();
    let mark = |name: &str| format!("put {} {}.done\n", marker.display(), at(name).display());
    let upload = |from: &Path, to: &str| {
        format!("put {} {}\n{}", from.display(), at(to).display(), mark(to))
    };
    let mut service = place.tidemill(&["run", "--config", &config, "--http", "off"]);
    let running = Running::start(&mut service);
    running.until_logged("\"event\":\"pipeline.ready\"");
    let acknowledged = || events(&place.root().join("var/lib/tidemill/sftp.jsonl"));

    // What broke off waits for its marker, however long that takes: others pass it.
    server.break_off(&first, &at("orders.csv"));
    server.sftp(&upload(&second, "passes.xml"));
    until("the other one", || acknowledged().len() == 1);
    assert_eq!(acknowledged()[0]["source"], "passes.xml");
    let resume = format!("reput {} {}\n", first.display(), at("orders.csv").display());
    server.sftp(&format!("{resume}{}", mark("orders.csv")));
    until("the first order", || acknowledged().len() == 2 && !at("orders.csv").exists());

    // The name again: it breaks off, and is uploaded again from its begin.
    server.break_off(&second, &at("orders.csv"));
    server.sftp(&upload(&second, "orders.csv"));
    until("the second order", || acknowledged().len() == 3 && !at("orders.csv").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(acknowledged().iter().all(|line| line["outcome"] == "published"), "{ended:?}");
    let is_of = |output: &str, source: &Path| {
        let found = done(Command::new("gzip").arg("-dc").arg(ready.join(output))).stdout;
        assert!(found == fs::read(source).unwrap(), "{output}: {} bytes", found.len());
    };
    is_of("orders.csv.gz", &first);
    is_of("orders.csv.1.gz", &second);
    assert_eq!(tree(&incoming), Vec::<PathBuf>::new());
    let processed = srv.join("sftp/processed");
    let names = ["orders.csv", "orders.csv.1", "orders.csv.done", "orders.csv.done.1"];
    let names = names.iter().chain(&["passes.xml", "passes.xml.done"]);
    assert_eq!(tree(&processed), names.map(|name| processed.join(name)).collect::<Vec<_>>());
    for (archived, source) in [("orders.csv", &first), ("orders.csv.1", &second)] {
        assert!(fs::read(processed.join(archived)).unwrap() == fs::read(source).unwrap());
    }
    place.assert_clean();
}
