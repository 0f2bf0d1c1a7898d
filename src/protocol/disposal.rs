//! The end of a held source, after which it is gone from the input or has its name again.

use crate::{
    fingerprint::Fingerprint,
    ledger::{OpenWork, Record, Session},
    source::{
        Disposal, End, HeldSource, Result, Source, SourceError, TakeRequest, TakeResult, Unfinished,
    },
};

/// Takes a source for its disposal. The session's stop is unclean as long as the source may have its
/// private name, and for good if it is dropped meanwhile: the next start looks for it.
pub fn take_source(
    input: &dyn Source,
    session: &Session,
    wanted: &TakeRequest<'_>,
) -> Result<TakeResult> {
    let work = session.begin_work();
    match input.take(wanted) {
        Ok(taken) => Ok(tracked(taken, work)),
        Err(error) => {
            // After an error it may have the private name.
            if !input.may_hold(wanted) {
                work.end();
            }
            Err(error)
        }
    }
}

/// A held source whose private name makes the stop unclean.
#[derive(Debug)]
struct Tracked {
    source: Box<dyn HeldSource>,
    work: OpenWork,
}

fn tracked(taken: TakeResult, work: OpenWork) -> TakeResult {
    match taken {
        TakeResult::Taken(held) => TakeResult::Taken(Box::new(Tracked { source: held, work })),
        TakeResult::Gone | TakeResult::Replaced | TakeResult::Busy => {
            work.end();
            taken
        }
        TakeResult::Stranded(..) => taken,
    }
}

impl HeldSource for Tracked {
    fn identity(&self) -> Result<Option<Fingerprint>> {
        self.source.identity()
    }

    fn check(self: Box<Self>, wanted: &TakeRequest<'_>) -> Result<TakeResult> {
        let Self { source, work } = *self;
        Ok(tracked(source.check(wanted)?, work))
    }

    fn finish(self: Box<Self>, disposal: &Disposal<'_>) -> Result<(), Unfinished> {
        let Self { source, work } = *self;
        match source.finish(disposal) {
            Ok(()) => work.end(),
            Err((source, error)) => return Err((Box::new(Self { source, work }), error)),
        }
        Ok(())
    }

    fn finish_put_back(
        self: Box<Self>,
        marker: Option<&str>,
    ) -> Result<Option<Box<dyn HeldSource>>> {
        let Self { source, work } = *self;
        let Some(source) = source.finish_put_back(marker)? else {
            work.end();
            return Ok(None);
        };
        Ok(Some(Box::new(Self { source, work })))
    }

    fn put_back(self: Box<Self>) -> Result<(), Unfinished> {
        let Self { source, work } = *self;
        match source.put_back() {
            Ok(()) => work.end(),
            Err((source, error)) => return Err((Box::new(Self { source, work }), error)),
        }
        Ok(())
    }
}

/// A disposal that failed.
#[derive(Debug)]
pub struct Undisposed {
    /// The cause, by which the failure is judged.
    pub error: SourceError,
    /// The reason why the source has its private name still; `None` if it has its own again.
    pub stranded: Option<SourceError>,
}

/// Removes or archives a held source by its record, after its marker; on an error the source gets its
/// name back.
pub fn finish_source(
    held: Box<dyn HeldSource>,
    record: &Record,
    marker: Option<&str>,
    on_progress: &dyn Fn(),
) -> Result<(), Undisposed> {
    held.finish(&Disposal::of(record, marker, on_progress)).map_err(put_back)
}

/// Moves a held source to its slot in quarantine, after its marker.
pub fn quarantine_source(
    held: Box<dyn HeldSource>,
    slot: &std::path::Path,
    marker: Option<&str>,
    on_progress: &dyn Fn(),
) -> Result<(), Unfinished> {
    held.finish(&Disposal { end: End::Quarantined(slot), marker, on_progress })
}

/// Restores the name of a source whose disposal failed.
pub fn put_back((held, error): Unfinished) -> Undisposed {
    let stranded = held.put_back().err().map(|(_, error)| error);
    Undisposed { error, stranded }
}
