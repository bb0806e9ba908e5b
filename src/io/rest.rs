//! `rest`: a sink that sends each message by an HTTP request.
//!
//! One request is on its way at a time, over a connection that is kept, so that messages arrive in their order; an answer
//! of 2xx confirms. What the answer means otherwise is said in [`answer`]: whether the message is refused for good, or the
//! server busy or away, and for how long. [`login`] fetches the token that headers may carry, and renews it.
//!
//! A request whose answer does not come is sent again, so the server may see it twice: a key of the row in the URL of a
//! PUT, or in a header, lets it tell.

mod answer;
mod login;
mod options;
mod sink;

use super::{Connector, props};

pub use login::is_of_login;

pub(super) const CONNECTOR: Connector = Connector {
    name: "rest",
    about: "Send results by HTTP requests.",
    defaults: "",
    source: None,
    sink: Some(sink::plan),
    lookup: None,
    source_schema: None,
    sink_schema: Some(props::schema::<options::Options>),
};
