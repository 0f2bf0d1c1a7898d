//! The transform: feeds a program and takes its output, without ever waiting for one end only.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};

use super::{
    client::Client,
    messages::{self, Report, Request, RunEnd},
    scratch::Scratch,
};
use crate::{
    limits,
    observe::PipelineMeter,
    transforms::{Error, FailureCause, FileInfo, Next, ProgramRunner, Transform, exec::Program},
};

/// The time between two looks for a forced stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The runner as the chain of one pipeline has it.
#[derive(Debug)]
pub struct PipelineRunner {
    pub client: Arc<Client>,
    pub meter: Arc<PipelineMeter>,
}

impl ProgramRunner for PipelineRunner {
    fn transform(self: Arc<Self>, program: &Arc<Program>, output_bytes: u64) -> Box<dyn Transform> {
        Box::new(Exec::new(self, Arc::clone(program), output_bytes))
    }
}

/// A transform that starts the program once for each file.
#[derive(Debug)]
pub struct Exec {
    runner: Arc<PipelineRunner>,
    program: Arc<Program>,
    output_bytes: u64,
    file: FileState,
    buffer: Box<[u8]>,
}

/// What is known of the current file.
#[derive(Debug, Default)]
struct FileState {
    source: OsString,
    /// The name of the program's input.
    name: OsString,
    scratch: Option<Scratch>,
    /// The input's file, for a program that takes one.
    input: Option<File>,
    run: Option<Run>,
    bytes_in: u64,
    bytes_out: u64,
}

/// A program that runs. Dropping it kills the program.
#[derive(Debug)]
struct Run {
    started_at: Instant,
    /// `None` after the end of the input, or if the program reads no more.
    stdin: Option<File>,
    /// `None` after its end.
    stdout: Option<File>,
    control: OwnedFd,
    report: Option<Report>,
}

impl Exec {
    pub fn new(runner: Arc<PipelineRunner>, program: Arc<Program>, output_bytes: u64) -> Self {
        let buffer = vec![0; limits::TRANSFORM_BUFFER_BYTES].into();
        Self { runner, program, output_bytes, file: FileState::default(), buffer }
    }

    fn scratch(&mut self) -> Result<&Scratch, FailureCause> {
        let scratch = match self.file.scratch.take() {
            Some(scratch) => scratch,
            None => self.runner.client.scratch().map_err(|error| {
                FailureCause::Unavailable(format!("cannot make the program's directory: {error}"))
            })?,
        };
        Ok(self.file.scratch.insert(scratch))
    }

    fn create_input(&mut self) -> Result<File, FailureCause> {
        let name = self.file.name.clone();
        self.scratch()?.create_input(&name).map_err(|error| no_input(&error))
    }

    /// The running program; it is started if it does not run yet.
    fn run(&mut self) -> Result<&mut Run, FailureCause> {
        let run = match self.file.run.take() {
            Some(run) => run,
            None => self.start_run()?,
        };
        Ok(self.file.run.insert(run))
    }

    fn start_run(&mut self) -> Result<Run, FailureCause> {
        let scratch = self.scratch()?.path().to_path_buf();
        let request = Request {
            program: self.program.name.clone(),
            source: self.file.source.clone(),
            name: self.file.name.clone(),
            scratch,
            output_bytes: self.output_bytes,
        };
        let client = &self.runner.client;
        Run::start(&self.program, |ends| client.start(&request, ends))
            .map_err(|error| FailureCause::Unavailable(format!("the program runner: {error}")))
    }

    /// Moves bytes in both directions until the input is written, or, with none left, until the program has
    /// ended.
    fn transfer(&mut self, mut bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        let is_last = bytes.is_empty();
        loop {
            let timeout = self.program.timeout;
            let mut buffer = std::mem::take(&mut self.buffer);
            let moved = self.run().map_err(Error::from).and_then(|run| {
                if run.started_at.elapsed() > timeout {
                    let text = format!("it ran for more than {timeout:?} and was killed");
                    return Err(FailureCause::Program(text).into());
                }
                if is_last {
                    run.stdin = None;
                }
                run.wait_and_move(&mut bytes, &mut buffer)
            });
            let result =
                moved.and_then(|count| self.pass_on(buffer.get(..count).unwrap_or_default(), next));
            self.buffer = buffer;
            result?;
            if self.runner.client.is_cut() {
                return Err(FailureCause::Stopped.into());
            }
            let run = self.run()?;
            let is_done = run.stdout.is_none() && run.report.is_some();
            if is_done || (!is_last && (bytes.is_empty() || run.stdin.is_none())) {
                return Ok(());
            }
        }
    }

    fn pass_on(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        self.runner.meter.progressed();
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.bytes_out += bytes.len() as u64;
        if self.file.bytes_out > self.output_bytes {
            return Err(FailureCause::OutputBytes { limit: self.output_bytes }.into());
        }
        next(bytes)
    }

    /// Passes on the file that the program made.
    fn read_output(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let name = self.program.output_name(self.file.name.as_bytes().to_vec());
        let opened = self.scratch()?.open_output(OsStr::from_bytes(&name));
        let mut output = opened.map_err(|error| {
            FailureCause::Program(format!("it ended well, and its output cannot be read: {error}"))
        })?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            match output.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if let Err(error) = self.pass_on(buffer.get(..count).unwrap_or_default(), next)
                    {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error.into()),
            }
        };
        self.buffer = buffer;
        result
    }

    /// Counts a run that has ended, unless it was the receiver of its output that stopped it.
    fn count(&self, result: &Result<(), Error>) {
        let outcome = match result.as_ref().map_err(Error::cause) {
            Ok(()) => "done",
            Err(FailureCause::Rejected(_)) => "rejected",
            Err(FailureCause::Unavailable(_)) => "unavailable",
            Err(FailureCause::Stopped) => return,
            Err(_) => "failed",
        };
        self.runner.meter.program_ran(&self.program.name, outcome);
    }

    /// Turns the end of the program into a verdict on the file.
    fn judge(&self, report: &Report) -> Result<(), FailureCause> {
        let program = &self.program;
        let (how, code) = match report.end {
            RunEnd::Exited(0) => return Ok(()),
            RunEnd::Exited(code) => (format!("exit code {code}"), Some(code)),
            RunEnd::Killed(signal) => (killed(signal), None),
            RunEnd::NotStarted(ref reason) => {
                return Err(FailureCause::Unavailable(reason.clone()));
            }
            RunEnd::Processes(count) => {
                (format!("it had {count} processes, of {} allowed", program.processes), None)
            }
            RunEnd::Memory(bytes) => {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                (format!("it used {} MiB, of {} allowed", mib(bytes), mib(program.memory)), None)
            }
        };
        let text = match last_line(&report.stderr) {
            Some(line) => format!("{how}: {line}"),
            None => how,
        };
        Err(match code {
            Some(code) if program.reject_codes.contains(&code) => FailureCause::Rejected(text),
            Some(code) if program.pause_codes.contains(&code) => FailureCause::Unavailable(text),
            _ => FailureCause::Program(text),
        })
    }
}

impl Transform for Exec {
    fn start(&mut self, file: &FileInfo<'_>) {
        // Dropping the previous file's run kills it.
        self.file = FileState {
            source: file.source.as_os_str().to_owned(),
            name: file.name(),
            ..FileState::default()
        };
    }

    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.bytes_in += bytes.len() as u64;
        if !self.program.takes_file() {
            let result = self.transfer(bytes, next);
            if result.is_err() {
                self.count(&result);
            }
            return result;
        }
        let mut input = match self.file.input.take() {
            Some(input) => input,
            None => self.create_input()?,
        };
        input.write_all(bytes).map_err(|error| no_input(&error))?;
        self.file.input = Some(input);
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let result = self.end(next);
        self.count(&result);
        result
    }
}

impl Exec {
    /// Ends the input, waits for the program and passes on the rest of its output.
    fn end(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        if self.program.takes_file() && self.file.input.take().is_none() {
            // An empty input is a file too.
            self.create_input()?;
        }
        self.transfer(&[], next)?;
        let report = self.file.run.take().and_then(|run| run.report);
        let report = report.ok_or_else(|| FailureCause::Unavailable("no report".to_owned()))?;
        self.judge(&report)?;
        if self.program.makes_file() {
            self.read_output(next)?;
        }
        let is_empty = self.file.bytes_out == 0 && self.file.bytes_in > 0;
        self.file = FileState::default();
        if is_empty && !self.program.allow_empty {
            let text = "exit code 0, and no output; hint: `allow_empty = true` if this is expected";
            return Err(FailureCause::Program(text.to_owned()).into());
        }
        Ok(())
    }
}

impl Run {
    fn start(
        program: &Program,
        start: impl FnOnce([OwnedFd; 3]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (control, of_supervisor) = messages::pair()?;
        let (of_program, stdin) = io::pipe()?;
        let (stdout, to_program) = io::pipe()?;
        fcntl_setfl(&stdin, OFlags::NONBLOCK)?;
        fcntl_setfl(&stdout, OFlags::NONBLOCK)?;
        start([of_program.into(), to_program.into(), of_supervisor])?;
        let stdin = (!program.takes_file()).then(|| File::from(OwnedFd::from(stdin)));
        let stdout = Some(File::from(OwnedFd::from(stdout)));
        Ok(Self { started_at: Instant::now(), stdin, stdout, control, report: None })
    }

    /// Waits until bytes can be moved, the program has ended or some time has passed. Writes from `bytes`,
    /// and returns how many were read into `buffer`.
    fn wait_and_move(&mut self, bytes: &mut &[u8], buffer: &mut [u8]) -> Result<usize, Error> {
        let mut handles = Vec::with_capacity(3);
        handles.extend(self.stdin.as_ref().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        handles.extend(self.stdout.as_ref().map(|stdout| PollFd::new(stdout, PollFlags::IN)));
        if self.report.is_none() {
            handles.push(PollFd::new(&self.control, PollFlags::IN));
        }
        match poll(&mut handles, Timespec::try_from(LOOK_INTERVAL).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let has_report = self.report.is_none()
            && handles.last().is_some_and(|control| !control.revents().is_empty());
        drop(handles);
        self.write(bytes)?;
        if has_report {
            let received = messages::receive::<Report>(self.control.as_fd());
            let report = received.ok().flatten().map(|(report, _)| report);
            let lost = || FailureCause::Unavailable("its supervisor was killed".to_owned());
            self.report = Some(report.ok_or_else(lost)?);
        }
        self.read(buffer)
    }

    fn write(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        while let Some(stdin) = self.stdin.as_mut().filter(|_| !bytes.is_empty()) {
            match stdin.write(bytes) {
                Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    // It reads no more: its exit code decides.
                    io::ErrorKind::BrokenPipe => self.stdin = None,
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        match stdout.read(buffer) {
            Ok(0) => {
                self.stdout = None;
                Ok(0)
            }
            Ok(count) => Ok(count),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn no_input(error: &io::Error) -> FailureCause {
    FailureCause::Unavailable(format!("the program's input: {error}"))
}

fn killed(signal: i32) -> String {
    let hint = match rustix::process::Signal::from_named_raw(signal) {
        Some(rustix::process::Signal::XFSZ) => ": its output is larger than `max_output`",
        _ => "",
    };
    format!("killed by signal {signal}{hint}")
}

/// Returns the last line, escaped: a reason is one line.
fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().escape_debug().collect())
}
