//! What makes a fixture a test.

use anyhow::Result;
use lbx::{dataplane::DataplaneError, desired::Service};
use lbx_common::drops::DropReason;
use lbx_tests::{packet::Frame, timing};
use libtest_mimic::{Completion, Trial};
use nix::unistd::Uid;

use crate::{
    cluster::{self, Flow, LO},
    director::{Director, To},
    outcome::{Counts, Expected},
};

/// A sentence about the program, and what shows whether it is true.
pub struct Fixture {
    says: &'static str,
    plays: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// A frame that passes as it is.
pub fn passes(says: &'static str, frame: Frame) -> Fixture {
    story(says, move |director| director.expect(LO, &frame, Expected::Passed))
}

/// A frame that is dropped.
pub fn drops(says: &'static str, reason: DropReason, frame: Frame) -> Fixture {
    story(says, move |director| {
        director.expect(LO, &frame, Expected::Dropped(reason))
    })
}

/// A frame of a flow that is sent on.
pub fn sends(says: &'static str, flow: Flow, frame: Frame, to: To, counts: Counts) -> Fixture {
    story(says, move |director| director.sends(flow, &frame, to, counts))
}

/// What happens to a director of its own with the services most fixtures do with.
pub fn story(says: &'static str, plays: impl FnOnce(&mut Director) -> Result<()> + Send + 'static) -> Fixture {
    free_story(says, move || plays(&mut Director::of(cluster::services())?))
}

/// What happens to a director of its own with services of its own.
pub fn story_of(
    says: &'static str,
    services: impl FnOnce() -> Vec<Service> + Send + 'static,
    plays: impl FnOnce(&mut Director) -> Result<()> + Send + 'static,
) -> Fixture {
    free_story(says, move || plays(&mut Director::of(services())?))
}

/// What happens to a director that the story makes itself.
pub fn free_story(says: &'static str, plays: impl FnOnce() -> Result<()> + Send + 'static) -> Fixture {
    Fixture {
        says,
        plays: Box::new(plays),
    }
}

impl Fixture {
    /// A test that is ignored, with the reason, where it cannot run.
    pub fn trial(self, subject: &str) -> Trial {
        let name = format!("{subject}: {}", self.says);
        Trial::ignorable_test(name.clone(), move || {
            if !Uid::effective().is_root() {
                return Ok(Completion::ignored_with("needs root"));
            }
            match timing::timed(&name, self.plays) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => match error.downcast_ref() {
                    Some(absent @ DataplaneError::NoProgram) => Ok(Completion::ignored_with(absent.to_string())),
                    _ => Err(format!("{error:#}").into()),
                },
            }
        })
    }
}
