//! `tidemill check`: the configuration as it is understood, or all that is wrong with it.

use super::{complain, print};
use crate::{config, error::Exit, policy::Durability};

pub fn check(options: &config::Options) -> Exit {
    match config::load(options) {
        Ok(config) => {
            print(&config.to_string());
            for pipeline in &config.pipelines {
                if pipeline.durability == Durability::None {
                    let name = &pipeline.name;
                    complain(
                        &format!(
                            "note: pipeline {name}: `durability = \"none\"`: a power loss may take published outputs back"
                        ),
                        Exit::Drained,
                    );
                }
            }
            Exit::Drained
        }
        Err(problems) => complain(&problems.to_string(), Exit::Config),
    }
}
