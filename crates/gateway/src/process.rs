//! What the program asks of the system for itself: many descriptors, and no picture of its memory on disk.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use tracing::warn;

/// Raises the soft limit of descriptors to the hard one, and turns core dumps off: memory holds keys, tokens and prompts.
/// What the system does not grant is told; the program runs without.
pub(crate) fn prepare() {
    let descriptors = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: descriptors.maximum,
        maximum: descriptors.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "process.descriptors: the soft limit stays as it is");
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // The limit is for children as well; a core that goes to a pipe knows no limit, but asks whether the process may be dumped.
    if let Err(error) = setrlimit(Resource::Core, none) {
        warn!(%error, "process.core: the limit of core dumps stays as it is");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "process.core: the process stays dumpable");
    }
}
