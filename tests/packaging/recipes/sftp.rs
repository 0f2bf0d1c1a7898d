//! Uploads over SFTP into the input of a running service: a real `sshd` on loopback, and clients
//! that upload under another name and rename, each in its own way.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    files::{Place, Running, tree, until},
    prove,
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

    /// Runs these commands of OpenSSH's `sftp`.
    fn sftp(&self, batch: &str) {
        let mut command = Command::new("sftp");
        command.args(self.options()).args(["-P", &self.port.to_string(), "-b", "-"]);
        command.arg(format!("{}@127.0.0.1", self.user)).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), batch.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "sftp: {batch}");
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
fn files(place: &Place) -> (PathBuf, Vec<PathBuf>) {
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
        let place = Place::new();
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
