//! Clients that mean harm by what they write: guessed tokens, and names made for logs and statements.

mod guessing;
mod injection;
