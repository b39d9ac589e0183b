//! Segment files.
/// The format that this version writes, and the highest it reads.
pub const VERSION: u32 = 1;
