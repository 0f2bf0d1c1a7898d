use super::*;
use crate::fixture::SECOND;

#[test]
fn the_report_has_a_line_for_each_resource_and_failed_task() {
    let closed = |name: &'static str, outcome| ClosedResource {
        name: name.into(),
        took: SECOND / 8,
        outcome,
    };
    let mut report = Report { took: 3 * SECOND, ..Report::default() };
    assert!(report.is_clean());
    assert_eq!(
        report.to_string(),
        "tasks: 0 finished, 0 failed, 0 cancelled, 0 alive\nstopped in 3.0s"
    );
    report.resources = vec![
        closed("server", CloseOutcome::Done),
        closed("ledger", CloseOutcome::Failed("disk on fire".to_owned())),
        closed("lock", CloseOutcome::TimedOut(SECOND)),
        closed("log", CloseOutcome::Abandoned),
    ];
    report.tasks = TasksReport {
        finished: 5,
        failed: 1,
        failures: vec![TaskFailure { name: "beat".into(), message: "out of breath".to_owned() }],
        cancelled: vec!["deaf".into()],
        alive: vec!["blocked".into()],
    };
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        "resource server: closed in 125.0ms\n\
         resource ledger: close failed in 125.0ms: disk on fire\n\
         resource lock: not closed after 1s\n\
         resource log: close abandoned\n\
         tasks: 5 finished, 1 failed, 1 cancelled, 1 alive\n\
         task beat: out of breath\n\
         task deaf: cancelled\n\
         task blocked: still alive\n\
         stopped in 3.0s"
    );
}
