//! The tree as adjacency list and adjacency matrix (R14; patent, manner 4).

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Edge, Tree, TreeError};
use crate::{id::MemberId, limits, tree::Member};

/// For each member, in order of ids, the positions of its neighbours. Overlap is left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdjacencyList {
    /// The members, in order of ids.
    pub members: Vec<Member>,
    /// For each of them the positions of its tree neighbours, rising.
    pub neighbours: Vec<Vec<u32>>,
}

/// A symmetric square matrix of bits, row by row. Overlap is left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdjacencyMatrix {
    /// The members, in order of ids: both rows and columns.
    pub members: Vec<Member>,
    /// Bit `row * n + column`, most significant bit of a byte first; 1 is an edge. Bits behind the
    /// last are 0.
    #[serde(with = "serde_bytes")]
    pub bits: Vec<u8>,
}

impl AdjacencyMatrix {
    /// Whether the members at two positions are neighbours; false behind the last.
    #[must_use]
    pub fn joins(&self, row: usize, column: usize) -> bool {
        let n = self.members.len();
        row < n && column < n && bit_at(&self.bits, row * n + column)
    }
}

impl Tree {
    /// The tree as adjacency list.
    #[must_use]
    pub fn adjacency_list(&self) -> AdjacencyList {
        let members: Vec<Member> = self.members().cloned().collect();
        let mut neighbours = vec![Vec::new(); members.len()];
        for (a, b) in self.positions(&members) {
            if let Some(list) = neighbours.get_mut(a) {
                list.push(u32::try_from(b).unwrap_or(u32::MAX));
            }
            if let Some(list) = neighbours.get_mut(b) {
                list.push(u32::try_from(a).unwrap_or(u32::MAX));
            }
        }
        for list in &mut neighbours {
            list.sort_unstable();
        }
        AdjacencyList { members, neighbours }
    }

    /// The tree as adjacency matrix: n² bits for n members.
    #[must_use]
    pub fn adjacency_matrix(&self) -> AdjacencyMatrix {
        let members: Vec<Member> = self.members().cloned().collect();
        let n = members.len();
        let mut bits = vec![0_u8; (n * n).div_ceil(8)];
        for (a, b) in self.positions(&members) {
            for at in [a * n + b, b * n + a] {
                if let Some(byte) = bits.get_mut(at / 8) {
                    *byte |= 0x80 >> (at % 8);
                }
            }
        }
        AdjacencyMatrix { members, bits }
    }

    fn positions<'a>(&'a self, members: &'a [Member]) -> impl Iterator<Item = (usize, usize)> + 'a {
        let position = |id: MemberId| members.binary_search_by_key(&id, |member| member.id).ok();
        self.edges().filter_map(move |edge| {
            let (a, b) = edge.ends();
            Some((position(a)?, position(b)?))
        })
    }
}

impl TryFrom<AdjacencyList> for Tree {
    type Error = TreeError;

    fn try_from(list: AdjacencyList) -> Result<Self, TreeError> {
        let AdjacencyList { members, neighbours } = list;
        check_members(&members)?;
        if members.len() != neighbours.len() {
            return Err(TreeError::Stranger);
        }
        if !neighbours.iter().all(|list| list.is_sorted_by(|a, b| a < b)) {
            return Err(TreeError::Order);
        }
        let mut edges = Vec::new();
        for (at, list) in (0_u32..).zip(&neighbours) {
            for &other in list {
                let mirrored = neighbours
                    .get(other as usize)
                    .is_some_and(|back| back.binary_search(&at).is_ok());
                if !mirrored {
                    return Err(TreeError::Stranger);
                }
                match at.cmp(&other) {
                    Ordering::Less => edges.push(edge(&members, at as usize, other as usize)?),
                    Ordering::Equal => return Err(TreeError::Loop),
                    Ordering::Greater => {}
                }
            }
        }
        Self::new(members, edges, [])
    }
}

impl TryFrom<AdjacencyMatrix> for Tree {
    type Error = TreeError;

    fn try_from(matrix: AdjacencyMatrix) -> Result<Self, TreeError> {
        let AdjacencyMatrix { members, bits } = matrix;
        check_members(&members)?;
        let n = members.len();
        if bits.len() != (n * n).div_ceil(8) {
            return Err(TreeError::TooLarge);
        }
        let bit = |row: usize, column: usize| bit_at(&bits, row * n + column);
        if (n * n..bits.len() * 8).any(|at| bit_at(&bits, at)) {
            return Err(TreeError::TooLarge);
        }
        let mut edges = Vec::new();
        for row in 0..n {
            if bit(row, row) {
                return Err(TreeError::Loop);
            }
            for column in row + 1..n {
                if bit(row, column) != bit(column, row) {
                    return Err(TreeError::Stranger);
                }
                if bit(row, column) {
                    edges.push(edge(&members, row, column)?);
                }
            }
        }
        Self::new(members, edges, [])
    }
}

fn bit_at(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

/// At most as many as a session may have, in order of ids.
fn check_members(members: &[Member]) -> Result<(), TreeError> {
    if members.len() > limits::MEMBERS {
        return Err(TreeError::TooLarge);
    }
    if !members.is_sorted_by(|a, b| a.id < b.id) {
        return Err(TreeError::Order);
    }
    Ok(())
}

fn edge(members: &[Member], a: usize, b: usize) -> Result<Edge, TreeError> {
    match (members.get(a), members.get(b)) {
        (Some(a), Some(b)) => Edge::new(a.id, b.id).ok_or(TreeError::Loop),
        (None, _) | (_, None) => Err(TreeError::Stranger),
    }
}
