use super::*;
use crate::{ledger::Output, policy::OnSuccess};

const TEMP: Identity = Identity { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };
const OLD: Identity = Identity { inode: 5, ..TEMP };
const FOREIGN: Identity = Identity { inode: 9, size: 3, ..TEMP };

fn facts(state: State, temp: Option<Identity>, output: Option<Identity>) -> Facts {
    let record = Record {
        id: 1,
        pipeline: 1,
        source: "a".into(),
        identity: TEMP,
        output: Some(Output {
            path: "a.zst".into(),
            temp: "t".into(),
            identity: TEMP,
            hash: [1; 32],
            source_hash: [2; 32],
            replaces: Some(OLD),
        }),
        on_success: OnSuccess::Delete,
        state,
        reason: None,
        moved_to: None,
        at_ns: 0,
    };
    Facts { record, temp, output, same_content: false, acknowledged: false }
}

#[test]
fn every_state_a_crash_can_leave_has_its_plan() {
    let renamed = Identity { changed_ns: 99, ..TEMP };
    for (temp, output, action) in [
        (Some(TEMP), None, Action::Publish),
        (Some(TEMP), Some(OLD), Action::Replace),
        (Some(TEMP), Some(renamed), Action::FinishAndUnlink),
        (Some(TEMP), Some(FOREIGN), Action::Withdraw),
        (None, Some(renamed), Action::Finish),
        (None, None, Action::Quarantine),
        (None, Some(FOREIGN), Action::Quarantine),
        (None, Some(OLD), Action::Quarantine),
        (Some(FOREIGN), None, Action::Quarantine),
    ] {
        assert_eq!(plan(&facts(State::Intent, temp, output)), action, "{temp:?} {output:?}");
    }
}

#[test]
fn an_acknowledged_output_is_never_published_again() {
    for (temp, output) in [(None, None), (Some(TEMP), None), (None, Some(FOREIGN))] {
        assert_eq!(plan(&facts(State::Published, temp, output)), Action::Dispose);
        let acknowledged = Facts { acknowledged: true, ..facts(State::Intent, temp, output) };
        assert_eq!(plan(&acknowledged), Action::Dispose);
    }
}

#[test]
fn the_same_bytes_under_the_final_name_are_the_output() {
    let copied = Facts { same_content: true, ..facts(State::Intent, None, Some(FOREIGN)) };
    assert_eq!(plan(&copied), Action::Finish);
}
