//! Real processes in network namespaces: what crosses a channel is counted by the kernel, and channels
//! are blocked and worn out without Arborcast's help. Needs root, `ip`, `nft` and `tc`.

mod figure_2;
mod nat;
