//! Real processes in network namespaces: what crosses a channel is counted by the kernel, and channels
//! are blocked and worn out without Arborcast's help. Needs root, `ip`, `nft` and `tc`.

#![expect(clippy::print_stdout, reason = "figures and skips are shown with --no-capture")]

mod figure_2;
