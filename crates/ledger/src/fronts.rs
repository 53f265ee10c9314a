//! What the front doors keep and ask for: dialogs, budgets, cooldowns, usage.

mod dialogs;
mod resale;
mod usage;

pub use self::{
    dialogs::{DialogName, Turn, TurnStart},
    resale::{Budgets, Payer},
    usage::UsedRow,
};
