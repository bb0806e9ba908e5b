//! Counters of how often a condition was met: `last_hit_count` and its like.
//!
//! A call of such a function in a rule owns one [`Hits`]. It reads the value first; once the condition around the call
//! is decided, or at once where there is none, a hit is noted.

use crate::data::{Time, Value};
use crate::diag::Result;

use super::aggregate::{load_int, parts};
use super::{Ctx, Func, Special, Stateful};

const fn row(name: &'static str) -> Func {
    Func::special(name, "() -> bigint", Special::Hit).family("other")
}

pub const FUNCS: &[Func] = &[
    row("last_hit_count")
        .about("How often this place was reached before; in a condition how often it was met.")
        .examples(&[("last_hit_count()", "0"), ("last_hit_count() + 1", "1")]),
    row("last_hit_time")
        .about("The time at which this place was last reached, in milliseconds since 1970; in a condition when it was last met. 0 before that.")
        .examples(&[("last_hit_time()", "0"), ("last_hit_time() + 1", "1")]),
];

/// What one call remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    pub count: i64,
    /// The time of the last hit, 0 before the first.
    pub last: Time,
}

impl Hits {
    /// What the function of this name shows now.
    pub fn read(&self, name: &str) -> Value {
        Value::Int(if name.ends_with("_count") { self.count } else { self.last.0 })
    }

    /// Notes that the condition was met by a row of this time.
    pub fn hit(&mut self, at: Time) {
        self.count += 1;
        self.last = at;
    }

    pub fn save(&self) -> Value {
        Value::array(vec![Value::Int(self.count), Value::Int(self.last.0)])
    }

    pub fn load(saved: &Value) -> Result<Hits> {
        let [count, last] = parts(saved)?;
        Ok(Hits { count: load_int(count)?, last: Time(load_int(last)?) })
    }
}

/// A call outside of any condition: each evaluation is a hit.
pub struct Each {
    name: &'static str,
    hits: Hits,
}

impl Each {
    pub fn new(name: &'static str) -> Self {
        Each { name, hits: Hits::default() }
    }
}

impl Stateful for Each {
    fn call(&mut self, _: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
        let before = self.hits.read(self.name);
        self.hits.hit(ctx.row_time.unwrap_or(ctx.now));
        Ok(before)
    }

    fn save(&self) -> Value {
        self.hits.save()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.hits = Hits::load(&saved)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_shows_from_the_next_reading_on() {
        let mut hits = Hits::default();
        assert_eq!((hits.read("last_hit_count"), hits.read("last_hit_time")), (Value::Int(0), Value::Int(0)));
        hits.hit(Time(1500));
        assert_eq!(
            (hits.read("last_agg_hit_count"), hits.read("last_agg_hit_time")),
            (Value::Int(1), Value::Int(1500))
        );
        assert_eq!(Hits::load(&hits.save()).unwrap(), hits);
    }
}
