//! Functions that are small, for reading: `echo` gives back its argument, `countPlusOne` counts one more than there are, and
//! `accumulateWordCount` counts the words of all texts that it has seen.

use kuiper_plugin::{Aggregate, Context, Error, Function, Owned, Result, Row, Value};

fn echo(arguments: Row<'_>) -> Result<Owned> {
    Ok(arguments.arg(0).to_owned())
}

/// How many rows a group has, and one more.
#[derive(Default)]
pub struct CountPlusOne(i64);

impl Aggregate for CountPlusOne {
    fn add(&mut self, _: &Context, _: Row<'_>) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn result(&mut self, _: &Context) -> Result<Owned> {
        Ok((self.0 + 1).into())
    }

    fn save(&self) -> Owned {
        self.0.into()
    }

    fn load(&mut self, saved: Owned) -> Result<()> {
        match saved {
            Owned::Int(count) => self.0 = count,
            other => return Err(Error::never(format!("expected a count, found {other}"))),
        }
        Ok(())
    }
}

/// How many words this call has seen; the count belongs to the rule's state, and is saved with it at `qos` 1 and 2.
#[derive(Default)]
pub struct AccumulateWordCount;

/// The key of the count in the state.
const ALL_WORDS: &str = "allwordcount";

impl Function for AccumulateWordCount {
    fn validate(&self, arguments: &[Option<Value<'_>>]) -> Result<()> {
        match arguments {
            [_, Some(Value::Text(""))] => Err(Error::never("the text that stands between words is empty")),
            _ => Ok(()),
        }
    }

    fn call(&mut self, context: &Context, arguments: Row<'_>) -> Result<Owned> {
        match (arguments.arg(0), arguments.arg(1)) {
            (Value::Null, _) => Ok(context.counter(ALL_WORDS).into()),
            (Value::Text(text), Value::Text(between)) if !between.is_empty() => {
                Ok(context.count(ALL_WORDS, text.split(between).count() as i64).into())
            }
            (Value::Text(_), other) => {
                Err(Error::never(format!("what stands between words must be a text, found {other}")))
            }
            (other, _) => Err(Error::never(format!("words are counted in a text, found {}", other.kind()))),
        }
    }
}

kuiper_plugin::export! {
    function "echo" => row(echo) {
        signature: "(any) -> any",
        about: "The argument.",
        examples: [("echo(NULL)", "null"), ("echo('a')", "\"a\"")],
    },
    aggregate "countPlusOne" => constructor(CountPlusOne::default) {
        signature: "(any) -> int",
        about: "How many rows the group has, and one more.",
        state: 1..=1,
    },
    function "accumulateWordCount" => constructor(|| AccumulateWordCount) {
        signature: "(text, text) -> int",
        about: "How many words all texts so far have; the second argument stands between words.",
        examples: [("accumulateWordCount('one two', ' ')", "2")],
        state: 1..=1,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuiper_plugin::testing::{json, Host};

    #[test]
    fn every_example_holds() {
        assert_eq!(Host::load(kuiper_plugin_v1).examples().unwrap(), 3);
    }

    #[test]
    fn words_add_up() {
        let host = Host::load(kuiper_plugin_v1);
        let words = host.function("accumulateWordCount").unwrap();
        let counted = |text: &str| words.call(&[json(text), json("' '")]).unwrap();
        assert_eq!(
            (counted("'a b c'"), counted("null"), counted("'d'")),
            (Owned::Int(3), Owned::Int(3), Owned::Int(4))
        );
        let refused = words.call(&[Owned::Int(1), json("' '")]).unwrap_err();
        assert_eq!(refused.to_string(), "words are counted in a text, found an integer");
        assert!(words.validate(&[None, Some(json("''"))]).is_err());
    }

    #[test]
    fn a_count_goes_on_after_a_restart() {
        let host = Host::load(kuiper_plugin_v1);
        let count = host.function("countPlusOne").unwrap();
        count.add(&[Owned::Null]).unwrap();
        let saved = count.save().unwrap();
        let loaded = host.function("countPlusOne").unwrap();
        loaded.load(&saved).unwrap();
        loaded.add(&[Owned::Null]).unwrap();
        assert_eq!(loaded.result().unwrap(), Owned::Int(3));
    }
}
