use std::collections::HashSet;

use crate::expr::Bound;
use crate::func::Body;
use crate::sql::BinaryOp;

use super::node::{GuestCall, OutputColumn};

/// Takes the calls of plugin functions out of expressions, so that they are made for a whole batch at once. A call that
/// is made only under a condition (in CASE, or behind AND and OR) stays where it is.
pub struct Hoist<'a> {
    pub calls: Vec<GuestCall>,
    /// Slots that are filled only after the calls are made.
    pub later: HashSet<usize>,
    pub fresh: &'a mut dyn FnMut() -> usize,
}

impl Hoist<'_> {
    pub fn columns(&mut self, columns: &mut [OutputColumn]) {
        columns.iter_mut().for_each(|column| self.expr(&mut column.expr));
    }

    pub fn expr(&mut self, bound: &mut Bound) {
        match bound {
            Bound::Const(_)
            | Bound::Slot(..)
            | Bound::Alias(..)
            | Bound::Row(_)
            | Bound::Meta(_)
            | Bound::RowTime
            | Bound::Case { .. } => {}
            Bound::Member(of, _) | Bound::Unary(_, of) | Bound::IsNull { of, .. } => self.expr(of),
            Bound::Binary(BinaryOp::And | BinaryOp::Or, first, _) => self.expr(first),
            Bound::Index(a, b) | Bound::Binary(_, a, b) => {
                self.expr(a);
                self.expr(b);
            }
            Bound::Slice(of, from, to) => {
                self.expr(of);
                from.iter_mut().chain(to).for_each(|bound| self.expr(bound));
            }
            Bound::Between { of, low, high, .. } => [of, low, high].into_iter().for_each(|part| self.expr(part)),
            // The list is looked at only as far as needed.
            Bound::InList { of, .. } | Bound::InArray { of, .. } => self.expr(of),
            Bound::Like { of, pattern, .. } => {
                self.expr(of);
                self.expr(pattern);
            }
            Bound::Replaced(_, values) => values.iter_mut().for_each(|(_, value)| self.expr(value)),
            Bound::Call(func, args, _) => {
                args.iter_mut().for_each(|arg| self.expr(arg));
                let later = |arg: &Bound| arg.slots().iter().any(|slot| self.later.contains(slot));
                if matches!(func.body, Body::Guest(_)) && !args.iter().any(later) {
                    let shown = bound.to_string();
                    let Bound::Call(func, args, number) = std::mem::replace(bound, Bound::RowTime) else { return };
                    let slot = (self.fresh)();
                    self.calls.push(GuestCall { func, args, slot, number });
                    *bound = Bound::Slot(slot, shown.into());
                }
            }
        }
    }
}
