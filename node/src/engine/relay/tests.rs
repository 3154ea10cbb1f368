//! The relay as a whole. Mechanisms that stand alone have their tests beside them.

mod changes;
mod direct;
mod edges;
mod flows;
mod held;
mod history;
mod holes;
mod in_band;
mod inquiries;
mod joiners;
mod live;
mod pulse;
mod slow;
mod trees;
mod windows;
mod world;
