//! Positions of sources that a user sets: the rule is started again, and its source goes on from there.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Refused;
use super::life::State;
use super::rules::Rules;

impl Rules {
    /// Has the source of a stream in a rule go on from a position, in the words of that source.
    ///
    /// # Errors
    /// `Invalid` for a rule that does not run, and for a stream that is not one of its own or cannot go to a position. A
    /// position that the source does not take stops the rule with its error.
    pub async fn reset(self: &Arc<Self>, id: String, stream: &str, position: Json) -> Result<(), Refused> {
        let refused = |text: String| Err(Refused::Invalid(text));
        let missing = |_| Refused::Invalid(format!("Rule {id} is not found in registry"));
        let rule = self.registered(&id).map_err(missing)?;
        if rule.state() != State::Running {
            return refused(format!("rule {id} should be running when modify state"));
        }
        let planned = self.plan(&rule.def()).map_err(Refused::Invalid)?;
        let definition = self.host().catalog.find(stream).filter(|_| planned.sources().iter().any(|one| one == stream));
        let Some(definition) = definition else { return refused(format!("stream {stream} not found in topo")) };
        if definition.options.shared {
            return refused(format!("stream {stream} is shared: other rules read it from where it stands"));
        }
        if !self.host().plugins.goes_to_positions(definition.connector()) {
            return refused(format!(
                "the source of the stream {stream}, `{}`, takes no position",
                definition.connector()
            ));
        }
        self.host().offered.reset(&id, stream, position);
        self.restart(id).await.map(drop)
    }
}
