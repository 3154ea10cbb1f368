//! Bugs on purpose, each one that would be easy to make. Only with the feature `sabotage`: the simulator
//! shows by them that it would find such bugs.

/// What a relay does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// The patent's rule for repeated data, taken by the letter: whatever has a lower number than the
    /// newest is dropped, though it may be late and new.
    LateIsRepeated,
    /// A relay lets go of a frame once its own application has it, though others may still need it.
    OwnIsEnough,
    /// A joiner takes over the floors of a neighbour that has none yet itself.
    AnybodyIsSettled,
}
