//! `priority`: which pipeline gets the processors.

use std::fs;

use crate::{
    files::{Running, TestDir, until},
    intake::{ends_well, order::until_acknowledged},
};

/// Text that takes time to compress.
fn text(seed: u64) -> String {
    let mut state = seed;
    let mut words = String::new();
    while words.len() < 50_000 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        words.push_str(&format!("{} ", (state >> 40) % 5000));
    }
    words
}

/// Both pipelines have work for all processors. How much each gets depends on what else the machine does; the one
/// of the lower priority gets some of them all the same, before the other has ended.
#[test]
fn the_lowest_priority_is_not_left_without_processors() {
    const COUNT: usize = 200;
    let place = TestDir::new();
    let root = place.root();
    let mut config = "state_dir = \"state\"\nhttp = \"off\"\nevents = \"events\"\n".to_owned();
    // The lower one comes first, so that it has no disadvantage but its priority.
    for (name, priority) in [("low", -10), ("high", 10)] {
        let input = root.join(format!("in-{name}"));
        fs::create_dir(&input).unwrap();
        for number in 0..COUNT {
            fs::write(input.join(number.to_string()), text(number as u64)).unwrap();
        }
        config += &format!(
            "[[pipeline]]\nname = \"{name}\"\ninput = \"in-{name}\"\noutput = \"out-{name}\"\ntransforms = \"bzip2\"\ndurability = \"none\"\npriority = {priority}\n"
        );
    }
    fs::write(root.join("tidemill.toml"), config).unwrap();
    let args = ["run", "--config", "tidemill.toml"];
    let running = Running::start(place.tidemill(&args).env("RUST_LOG", "info"));
    until_acknowledged(&place, 2 * COUNT);
    let events = fs::read_to_string(root.join("events")).unwrap();
    let low = |line: &&str| line.contains("\"pipeline\":\"low\"");
    let lines: Vec<&str> = events.lines().collect();
    let last_high = lines.iter().rposition(|line| !low(line)).unwrap();
    let low_before = lines.iter().take(last_high).filter(|line| low(line)).count();
    assert!(low_before > 0, "nothing of the lower priority was processed");
    ends_well(&place, running);
}

#[test]
fn the_threads_that_transform_have_the_nice_value_of_their_pipeline() {
    let place = TestDir::new();
    let root = place.root();
    let mut config = "state_dir = \"state\"\nhttp = \"off\"\n[limits]\nworkers = 1\n".to_owned();
    for (name, priority) in [("low", -10), ("middle", 0), ("high", 10)] {
        fs::create_dir(root.join(format!("in-{name}"))).unwrap();
        config += &format!(
            "[[pipeline]]\nname = \"{name}\"\ninput = \"in-{name}\"\noutput = \"out-{name}\"\npriority = {priority}\n"
        );
    }
    fs::write(root.join("tidemill.toml"), config).unwrap();
    let running = place.watch(&[]);
    let tasks = format!("/proc/{}/task", running.pid());
    let own = nice_of(&format!("/proc/{}/stat", running.pid())).unwrap();
    // The kernel's highest value bounds them, where the tests have one of their own.
    let wanted = |extra: i64| [0, 6, 12].map(|nice| (own + extra + nice).min(19));
    let found = |wanted_name: &str| {
        let tasks = fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path());
        let has_name = |task: &std::path::PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == wanted_name)
        };
        let tasks = tasks.filter(has_name);
        let mut nice: Vec<i64> =
            tasks.filter_map(|task| nice_of(&format!("{}/stat", task.display()))).collect();
        nice.sort_unstable();
        nice
    };
    // A thread sets its value itself.
    until("transform has them", || found("transform") == wanted(0));
    until("the lanes have them", || found("large") == wanted(5));
    ends_well(&place, running);
}

/// The `nice` value of a process or thread, by its `stat`.
fn nice_of(path: &str) -> Option<i64> {
    let stat = fs::read_to_string(path).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(16)?.parse().ok()
}
