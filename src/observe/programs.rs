//! Runs of a user's programs.

use super::{meters::PipelineMeter, prometheus as names};

impl PipelineMeter {
    /// Counts a run of a program with this name.
    pub fn program_ran(&self, program: &str, outcome: &'static str) {
        let (pipeline, program) = (self.name.to_string(), program.to_owned());
        metrics::counter!(names::PROGRAM_RUNS, "pipeline" => pipeline, "program" => program, "outcome" => outcome).increment(1);
    }
}
