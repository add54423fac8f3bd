//! What is wrong with a client's message, on its way from the body that finds it to the answer that tells it.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use http::request;
use weft_mesh::{BoxError, error::MeshError};

use super::buffer::{MESSAGE_LIMIT, TooMuch};

/// Set once, by the body; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaint(Arc<Mutex<Option<MeshError>>>);

/// What the transport is told instead.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be understood")]
struct Refused;

impl Complaint {
    /// One that goes with a request.
    pub(super) fn beside(parts: &mut request::Parts) -> Self {
        let complaint = Self::default();
        parts.extensions.insert(complaint.clone());
        complaint
    }

    fn set(&self, error: MeshError) -> BoxError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        Refused.into()
    }

    /// It is not what it should be.
    pub(super) fn unreadable(&self, problem: &impl Display) -> BoxError {
        self.set(MeshError::Unreadable { problem: problem.to_string() })
    }

    /// It is more than can be held.
    pub(super) fn too_much(&self, problem: &TooMuch) -> BoxError {
        self.set(match problem {
            TooMuch::Message => MeshError::TooLarge { limit: MESSAGE_LIMIT as u64 },
            TooMuch::Total => MeshError::Overloaded,
        })
    }

    /// What was wrong, if something was.
    pub(crate) fn take(&self) -> Option<MeshError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
