//! A request body, in whichever of the forms that an endpoint takes.

use super::{BodyError, RequestFacts, RequestScanner, form::FormScanner};
use crate::Api;

/// Reads a request body as it passes: a JSON object, or a multipart form.
#[derive(Debug)]
pub struct BodyScanner(Form);

#[derive(Debug)]
enum Form {
    Json(RequestScanner),
    Multipart {
        scanner: FormScanner,
        error: Option<BodyError>,
    },
}

impl BodyScanner {
    /// A scanner for JSON.
    #[must_use]
    pub fn json(api: Api) -> Self {
        Self(Form::Json(RequestScanner::new(api)))
    }

    /// A scanner for a form with this content type (`multipart/form-data; boundary=…`).
    ///
    /// # Errors
    /// When it names no boundary that every reader would find.
    pub fn multipart(api: Api, content_type: &str) -> Result<Self, BodyError> {
        let scanner = FormScanner::new(api, content_type)?;
        let error = None;
        Ok(Self(Form::Multipart { scanner, error }))
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// As soon as the body is known to be invalid or ambiguous, and from then on the same one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        match &mut self.0 {
            Form::Json(scanner) => scanner.push(bytes),
            Form::Multipart { scanner, error } => {
                if let Some(error) = *error {
                    return Err(error);
                }
                scanner.push(bytes).inspect_err(|it| *error = Some(*it))
            }
        }
    }

    /// Offset of the byte without which the body is not yet a request, once it has passed.
    #[must_use]
    pub fn closed_at(&self) -> Option<u64> {
        match &self.0 {
            Form::Json(scanner) => scanner.closed_at(),
            Form::Multipart { scanner, .. } => scanner.closed_at(),
        }
    }

    /// The `model`, as soon as it has passed.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        match &self.0 {
            Form::Json(scanner) => scanner.model(),
            Form::Multipart { scanner, .. } => scanner.model(),
        }
    }

    /// The facts, at the end of the body.
    ///
    /// # Errors
    /// When the body was invalid, ambiguous or unfinished.
    pub fn finish(self) -> Result<RequestFacts, BodyError> {
        match self.0 {
            Form::Json(scanner) => scanner.finish(),
            Form::Multipart {
                error: Some(error), ..
            } => Err(error),
            Form::Multipart { scanner, .. } => scanner.finish(),
        }
    }
}
