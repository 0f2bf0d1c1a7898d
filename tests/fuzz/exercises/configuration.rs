//! The configuration: whatever the text, it is resolved or every problem of it has a place.

use std::fs;

use tempfile::TempDir;
use tidemill::config::{Location, Options, resolve};

thread_local! {
    /// Removed at the end of the thread, which a static would not be.
    static PLACE: TempDir = {
        let place = tempfile::tempdir().expect("a directory");
        fs::create_dir(place.path().join("in")).expect("a directory");
        place
    };
}

/// An arbitrary text as the configuration file.
pub fn configuration(data: &[u8]) {
    let path = PLACE.with(|place| place.path().join("tidemill.toml"));
    fs::write(&path, data).expect("write");
    let options = Options { config: Some(path.clone()), ..Options::default() };
    let config = match resolve(&options) {
        Ok(config) => config,
        Err(problems) => {
            assert!(!problems.all.is_empty(), "no problem is reported");
            let report = problems.report(false);
            assert!(!problems.report(true).is_empty());
            if let Some((_, text)) = &problems.file {
                for problem in &problems.all {
                    let Some(Location::File(span)) = &problem.at else { continue };
                    assert!(text.get(span.clone()).is_some(), "{span:?} is not in the text");
                    let line = format!("tidemill.toml:{}:", line_of(text, span.start));
                    assert!(report.contains(&line), "{line} is not in the report:\n{report}");
                }
            }
            return;
        }
    };
    assert!(!config.pipelines.is_empty(), "there is nothing to do");
    // What is printed means the same.
    let printed = config.to_string();
    fs::write(&path, &printed).expect("write");
    let again = resolve(&options);
    let again = again.unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
    assert_eq!(printed, again.to_string());
}

/// What is missing at the end of the text is missing in its last line.
fn line_of(text: &str, offset: usize) -> usize {
    let before = &text[..offset];
    let before =
        if offset == text.len() { before.strip_suffix('\n').unwrap_or(before) } else { before };
    before.matches('\n').count() + 1
}
