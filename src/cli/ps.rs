//! `tidemill ps`: the services that run on this machine.

use std::borrow::Cow;

use super::{
    client::Client,
    format::state,
    print,
    processes::{self, Service},
    state_dir::StateDir,
    terminal::{cut, window},
};
use crate::{
    api::StatusAnswer,
    error::Exit,
    observe::{PauseReason, PipelineStatus, display_path, units::span},
};

/// One service in the words of the table.
#[derive(Debug, Default)]
struct Row {
    pid: String,
    state: String,
    uptime: String,
    pipelines: String,
    state_dir: String,
    page: String,
}

pub fn ps() -> Exit {
    let rows: Vec<_> = processes::services().iter().map(row).collect();
    let columns = window().map(|window| window.columns);
    let lines = table(rows);
    let line = |line: &String| columns.map_or_else(|| line.clone(), |most| cut(line, most)) + "\n";
    print(&lines.iter().map(line).collect::<String>());
    Exit::Success
}

fn row(service: &Service) -> Row {
    let pid = service.pid.to_string();
    let Some(dir) = &service.state_dir else {
        let (state, state_dir) = if service.is_visible {
            ("STARTING", "not open yet")
        } else {
            ("unknown", "permission denied")
        };
        let (state, state_dir) = (state.to_owned(), state_dir.to_owned());
        return Row { pid, state, state_dir, ..Row::default() };
    };
    let mut row = Row { pid, ..Row::default() };
    row.state_dir = display_path(dir).to_string();
    row.page = processes::page(service.pid).unwrap_or_default();
    let client = Client::of(&StateDir::at(dir));
    match client.and_then(|client| client.get::<StatusAnswer>("/api/v1/status")) {
        Ok(status) => {
            state(&status).clone_into(&mut row.state);
            row.uptime = span(status.uptime_seconds);
            let names: Vec<_> = status.pipelines.iter().map(|one| name(&one.status)).collect();
            row.pipelines = names.join(",");
        }
        // Without an admin socket, as with `--once`.
        Err(_) => "running".clone_into(&mut row.state),
    }
    row
}

/// The name of a pipeline, and when its window opens if that is closed.
fn name(pipeline: &PipelineStatus) -> Cow<'_, str> {
    let window = pipeline.pause(PauseReason::Window).and_then(|pause| pause.detail.as_ref());
    let name = &*pipeline.name;
    window.map_or(Cow::from(name), |opens| format!("{name} ({opens})").into())
}

/// The rows below a heading, in columns as wide as needed.
fn table(rows: Vec<Row>) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no service is running on this machine".to_owned()];
    }
    let heading = ["PID", "STATE", "UPTIME", "PIPELINES", "STATE DIRECTORY", "PAGE"];
    let mut cells = vec![heading.map(str::to_owned)];
    cells.extend(rows.into_iter().map(|row| {
        let Row { pid, state, uptime, pipelines, state_dir, page } = row;
        [pid, state, uptime, pipelines, state_dir, page]
            .map(|cell| if cell.is_empty() { "-".to_owned() } else { cell })
    }));
    let mut widths = [0; 6];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |line: &[String; 6]| {
        let padded = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_service_and_one_for_none() {
        assert_eq!(table(Vec::new()), ["no service is running on this machine"]);
        let row = Row {
            pid: "4711".to_owned(),
            state: "READY".to_owned(),
            state_dir: "/var/lib/tidemill".to_owned(),
            ..Row::default()
        };
        assert_eq!(
            table(vec![row]),
            [
                "PID   STATE  UPTIME  PIPELINES  STATE DIRECTORY    PAGE",
                "4711  READY  -       -          /var/lib/tidemill  -"
            ]
        );
    }
}
