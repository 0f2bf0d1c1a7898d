use super::*;

fn write_failed(errno: rustix::io::Errno) -> Verdict {
    Failure::from(WriteError::Io { path: "a".into(), source: errno.into() }).verdict()
}

fn read_failed(errno: rustix::io::Errno, network_input: bool) -> Verdict {
    let failure = Failure::from(ReadError::Io { path: "a".into(), source: errno.into() });
    failure.verdict_with(network_input)
}

#[test]
fn an_error_of_the_archive_blames_no_file() {
    let verdict = |source: io::Error| {
        let (path, what) = ("a".into(), "archived");
        Failure::from(DisposeError::Source { path, what, source }).verdict()
    };
    let damaged = || io::Error::from(rustix::io::Errno::IO);
    assert_eq!(verdict(damaged()), Verdict::Retry);
    assert_eq!(verdict(error::of_target(damaged())), Verdict::Pause);
    assert_eq!(verdict(error::of_target(io::Error::other("differs"))), Verdict::Retry);
}

#[test]
fn an_io_error_blames_the_side_it_happened_on() {
    use Verdict::{Pause, Retry};
    use rustix::io::Errno;
    for (errno, writing, reading, reading_by_network) in [
        (Errno::NOSPC, Pause, Retry, Retry),
        (Errno::DQUOT, Pause, Retry, Retry),
        (Errno::ROFS, Pause, Retry, Retry),
        (Errno::ACCESS, Pause, Retry, Retry),
        (Errno::MFILE, Pause, Pause, Pause),
        (Errno::IO, Pause, Retry, Pause),
        (Errno::UCLEAN, Pause, Retry, Pause),
        (Errno::STALE, Pause, Pause, Pause),
        (Errno::NOTCONN, Pause, Pause, Pause),
        (Errno::TIMEDOUT, Pause, Pause, Pause),
        (Errno::HOSTDOWN, Pause, Pause, Pause),
        (Errno::HOSTUNREACH, Pause, Pause, Pause),
        (Errno::NODEV, Pause, Pause, Pause),
        (Errno::NXIO, Pause, Pause, Pause),
        (Errno::SHUTDOWN, Pause, Pause, Pause),
        (Errno::NAMETOOLONG, Retry, Retry, Retry),
    ] {
        assert_eq!(write_failed(errno), writing, "writing: {errno}");
        assert_eq!(read_failed(errno, false), reading, "reading: {errno}");
        assert_eq!(read_failed(errno, true), reading_by_network, "by network: {errno}");
    }
}

#[test]
fn a_disposal_that_storage_cannot_do_does_not_blame_the_file() {
    use rustix::io::Errno;
    let verdict = |source: io::Error| {
        Failure::from(DisposeError::Source { path: "a".into(), what: "removed", source }).verdict()
    };
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::STALE] {
        assert_eq!(verdict(errno.into()), Verdict::Pause, "{errno}");
    }
    assert_eq!(verdict(io::ErrorKind::Unsupported.into()), Verdict::Pause);
    assert_eq!(verdict(Errno::PERM.into()), Verdict::Retry);
}

#[test]
fn damage_and_limits_are_final_and_a_failed_encoder_is_not() {
    use crate::transforms::FailureCause;
    let failure = |cause: FailureCause| {
        Failure::from(TransformError::Codec { path: "a".into(), source: cause.into() })
    };
    let broken = || io::Error::other("broken");
    for cause in [
        FailureCause::Corrupt(broken()),
        FailureCause::Truncated,
        FailureCause::Ratio { limit: 1 },
        FailureCause::Memory { limit: 1 },
        FailureCause::Unsupported("a dictionary"),
    ] {
        assert_eq!(failure(cause).verdict(), Verdict::Quarantine);
    }
    assert_eq!(failure(FailureCause::Failed(broken())).verdict(), Verdict::Retry);
}

#[test]
fn a_failed_directory_sync_is_fatal_and_a_failed_file_sync_is_not() {
    let source = || io::Error::from(rustix::io::Errno::IO);
    let path = || PathBuf::from("a");
    let file = Failure::from(CommitError::Sync { path: path(), source: source() });
    let directory = |source| Failure::from(CommitError::DirectorySync { path: path(), source });
    assert_eq!(file.verdict(), Verdict::Pause);
    assert_eq!(directory(source()).verdict(), Verdict::Fatal);
    let read_only = rustix::io::Errno::ROFS.into();
    assert_eq!(directory(read_only).verdict(), Verdict::Pause);
}
