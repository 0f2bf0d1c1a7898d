//! The history as a file: all records that fit a filter, newest first, read in windows as the client
//! receives them.

use std::{fmt::Write, io, sync::Arc};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    App,
    get::{QueryParams, QueryResult, given, search},
    problem::Problem,
    stream::{OpenStreams, StreamPermit},
};
use crate::{
    ledger, limits,
    outcome::Outcome,
    queries::outcomes::{self, Search},
    reason::ReasonCode,
};

/// The format of the file.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Csv,
    Jsonl,
}

#[derive(Debug, Deserialize)]
pub struct FormatParam {
    format: Format,
}

/// The columns of the CSV, in the order of [`Format::push`].
const COLUMNS: &str =
    "id,time,pipeline,state,source,output,source_bytes,output_bytes,reason_code,reason\r\n";

impl Format {
    const fn headers(self) -> [&'static str; 2] {
        match self {
            Self::Csv => {
                ["text/csv; charset=utf-8", "attachment; filename=\"tidemill-outcomes.csv\""]
            }
            Self::Jsonl => {
                ["application/jsonl", "attachment; filename=\"tidemill-outcomes.jsonl\""]
            }
        }
    }

    fn push(self, text: &mut String, one: &Outcome) -> io::Result<()> {
        match self {
            Self::Jsonl => *text += &(serde_json::to_string(one)? + "\n"),
            Self::Csv => {
                let bytes = one.output_bytes.map_or_else(String::new, |bytes| bytes.to_string());
                let state = one.state.map_or("", ledger::State::as_str);
                let words = [&*one.pipeline, state, &one.source]
                    .into_iter()
                    .chain([one.output.as_deref().unwrap_or_default()]);
                let words: Vec<_> = words.map(cell).collect();
                let code = one.reason_code.map_or("", ReasonCode::as_str);
                let reason = cell(one.reason.as_deref().unwrap_or_default());
                let (id, time, words, source) =
                    (one.id, &one.time, words.join(","), one.source_bytes);
                write!(text, "{id},{time},{words},{source},{bytes},{code},{reason}\r\n")
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}

/// Quotes a text as RFC 4180 does. A text that a spreadsheet would take for a formula gets a `'` in
/// front: producers choose the names of files.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("\"{}{}\"", if is_formula { "'" } else { "" }, text.replace('"', "\"\""))
}

/// A download in progress.
struct Export {
    app: App,
    format: Format,
    search: Search,
    has_begun: bool,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
    _held: StreamPermit,
}

pub async fn export(
    State(app): State<App>,
    Extension(open): Extension<OpenStreams>,
    format: QueryResult<FormatParam>,
    query: QueryResult<QueryParams>,
) -> Result<Response, Problem> {
    let FormatParam { format } = given(format)?;
    let search = Search { limit: limits::PAGE_ENTRIES_MAX, ..search(given(query)?)? };
    let Ok(permit) = Arc::clone(&app.api_state.streams).try_acquire_owned() else {
        return Err(Problem::busy(format!(
            "{} streams and downloads are open, which is the limit: close one",
            limits::STREAMS_MAX
        )));
    };
    let held = open.acquire();
    let export = Export {
        app,
        format,
        search,
        has_begun: false,
        has_ended: false,
        _permit: permit,
        _held: held,
    };
    let parts = unfold(export, |mut export| async move {
        let part = export.next().await?;
        // An error breaks the transfer off, so that no client takes a part for the whole.
        export.has_ended |= part.is_err();
        Some((part, export))
    });
    let mut response = Response::new(Body::from_stream(parts));
    for (name, value) in
        [header::CONTENT_TYPE, header::CONTENT_DISPOSITION].into_iter().zip(format.headers())
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

impl Export {
    /// Reads the next window; `None` after the last one.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.has_ended {
            return None;
        }
        let search = self.search.clone();
        let page = self.app.api_state.query(move |ledger| outcomes::page(ledger, &search));
        let page = tokio::select! {
            () = self.app.ending.cancelled() => return Some(Err(io::ErrorKind::Interrupted.into())),
            page = page => page,
        };
        let Ok(page) = page else {
            return Some(Err(io::Error::other("the ledger does not answer")));
        };
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) && matches!(self.format, Format::Csv) {
            text.push_str(COLUMNS);
        }
        for (record, roots) in &page.found {
            if let Err(error) = self.format.push(&mut text, &outcomes::outcome(record, roots)) {
                return Some(Err(error));
            }
        }
        self.search.before = page.next_before;
        self.has_ended = page.next_before.is_none();
        Some(Ok(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_in_its_cell_and_is_no_formula() {
        for (text, wanted) in [
            ("a.log", "\"a.log\""),
            ("", "\"\""),
            ("a \"b\",\nc", "\"a \"\"b\"\",\nc\""),
            ("=cmd()", "\"'=cmd()\""),
        ] {
            assert_eq!(cell(text), wanted);
        }
    }
}
