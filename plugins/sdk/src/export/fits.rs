//! Whether what an author wrote in [`export!`](crate::export!) makes what its line says. Each function is handed the author's own
//! expression and does nothing: where the expression does not fit, the compiler says so at its place, and not at the whole macro.

macro_rules! makers {
    ($($name:ident $maker:ident $kind:path;)*) => {$(
        /// Makes instances of this kind.
        pub trait $maker {}
        impl<T: $kind, F: Fn() -> T> $maker for F {}

        /// Of lines of this kind.
        pub mod $name {
            /// What makes an instance for each use.
            pub fn constructor<F: super::$maker>(_: F) {}
            /// What makes one for all rules.
            pub fn singleton<F: super::$maker>(_: F) {}
            /// A plain function.
            pub fn row<F: Fn(crate::Row<'_>) -> R, R>(_: F) {}
        }
    )*};
}

makers! {
    source MakesSource crate::Source;
    pull_source MakesPullSource crate::PullSource;
    sink MakesSink crate::Sink;
    bytes_sink MakesBytesSink crate::BytesSink;
    lookup MakesLookup crate::Lookup;
    function MakesFunction crate::Function;
    aggregate MakesAggregate crate::Aggregate;
}
