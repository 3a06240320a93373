use crate::convention::{Convention, Mark};

/// What Runtrail's own export of a history sends beside the names of [`GEN_AI`](super::GEN_AI).
pub(crate) const RUNTRAIL: Convention = Convention {
    marks: &[Mark::Scope("runtrail")],
    content: &["runtrail.payload"],
    ..Convention::NONE
};
