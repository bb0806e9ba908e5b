//! Which alias a name is: found by its hash, however many there are. And the order in which aliases are bound that read
//! one another: those at the bottom of a long chain first, so that no chain needs more stack than a short one.

use std::collections::HashMap;

use crate::data::Text;
use crate::sql::Field;

use super::findings::Findings;
use super::scope::{AliasState, Names, mentioned};

/// How many aliases may be bound within one another.
const WITHIN: usize = 16;

/// The aliases of a statement by name; they are numbered in the order of their fields.
#[derive(Default)]
pub struct Index {
    exact: HashMap<Text, Vec<usize>>,
    /// By their names in lower case.
    folded: HashMap<Text, Vec<usize>>,
    fields: HashMap<*const Field, usize>,
}

impl Index {
    pub fn new<'a>(aliases: impl Iterator<Item = (&'a Text, &'a Field)>) -> Self {
        let mut index = Index::default();
        for (n, (name, field)) in aliases.enumerate() {
            index.exact.entry(name.clone()).or_default().push(n);
            index.folded.entry(name.to_ascii_lowercase()).or_default().push(n);
            index.fields.insert(field, n);
        }
        index
    }

    /// The aliases of exactly that name, in order.
    pub fn named(&self, name: &str) -> &[usize] {
        self.exact.get(name).map_or(&[], Vec::as_slice)
    }

    /// The aliases of that name in any case, in order.
    pub fn in_any_case(&self, name: &str) -> &[usize] {
        if self.folded.is_empty() {
            return &[];
        }
        self.folded.get(name.to_ascii_lowercase().as_str()).map_or(&[], Vec::as_slice)
    }

    /// The alias of a field.
    pub fn of(&self, field: &Field) -> Option<usize> {
        self.fields.get(&(field as *const Field)).copied()
    }
}

impl Names<'_> {
    /// Binds the aliases that are on top of many others, each after those that it reads.
    pub fn bind_chains(&mut self, found: &mut Findings) {
        for n in self.far_up() {
            if matches!(self.aliases[n].state, AliasState::Waiting) {
                let span = self.aliases[n].field.alias.as_ref().map(|alias| alias.span).unwrap_or_default();
                let bound = self.bind_alias(n, span);
                found.take(bound);
            }
        }
    }

    /// The aliases that are on top of [`WITHIN`] others, from the lowest to the highest.
    fn far_up(&self) -> Vec<usize> {
        let mut levels: Vec<Option<usize>> = vec![None; self.aliases.len()];
        let mut order = Vec::new();
        // Each alias with those that it reads, and how many of them are done.
        let mut path: Vec<(usize, Vec<usize>, usize)> = Vec::new();
        for first in 0..self.aliases.len() {
            if levels[first].is_some() {
                continue;
            }
            levels[first] = Some(0);
            path.push((first, self.mentions(first), 0));
            while let Some((n, reads, next)) = path.last_mut() {
                if let Some(read) = reads.get(*next).copied() {
                    *next += 1;
                    // What is on the path already closes a circle, which is found when it is bound.
                    if levels[read].is_none() {
                        levels[read] = Some(0);
                        path.push((read, self.mentions(read), 0));
                    }
                    continue;
                }
                let level = reads.iter().filter_map(|read| levels[*read]).max().map_or(0, |below| below + 1);
                levels[*n] = Some(level);
                order.extend((level >= WITHIN).then_some(*n));
                path.pop();
            }
        }
        order
    }

    /// The aliases that the expression of one may read.
    fn mentions(&self, n: usize) -> Vec<usize> {
        let mut names = Vec::new();
        mentioned(&self.aliases[n].field.expr, &mut names, &|name| self.source(name).is_some());
        let named = |name: &Text| match self.index.named(name) {
            [] => self.index.in_any_case(name).to_vec(),
            exact => exact.to_vec(),
        };
        names.iter().flat_map(named).filter(|read| *read != n).collect()
    }
}
