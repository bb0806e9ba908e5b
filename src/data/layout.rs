use super::Text;

/// One column of what leaves a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Text,
    /// The value is an object whose entries are columns of their own, as `*` makes them. A named column of the same
    /// name is the stronger one.
    pub spread: bool,
}

/// Names of the slots of a batch that leaves a rule, slot by slot. A slot that holds `Absent` is no column of the row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout(Vec<Column>);

impl Layout {
    pub fn new(columns: Vec<Column>) -> Self {
        Layout(columns)
    }

    pub fn columns(&self) -> &[Column] {
        &self.0
    }

    pub fn width(&self) -> usize {
        self.0.len()
    }

    /// Whether a row can have columns that are not known before it is there.
    pub fn is_open(&self) -> bool {
        self.0.iter().any(|column| column.spread)
    }

    /// The slot of a named column.
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| !column.spread && column.name == name)
    }
}

impl<N: Into<Text>> FromIterator<N> for Layout {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        Layout(names.into_iter().map(|name| Column { name: name.into(), spread: false }).collect())
    }
}
