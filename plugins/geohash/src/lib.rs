//! Functions for geohashes: cells of the earth, named by text of base 32 or by integers of 64 bits.
//!
//! An integer hash fills all 64 bits, so that for places east of Greenwich it is negative here, where integers have a sign.
//! An argument that is NULL gives NULL.

mod cell;

use kuiper_plugin::{Error, Owned, Record, Result, Row, Value};

use cell::{Cell, DIRECTIONS};

/// Base-32 text of 12 letters.
const LETTERS: usize = 12;

fn encode(arguments: Row<'_>) -> Result<Owned> {
    place(arguments, |latitude, longitude| Owned::Text(Cell::at(latitude, longitude, LETTERS as u32 * 5).text()))
}

fn encode_int(arguments: Row<'_>) -> Result<Owned> {
    place(arguments, |latitude, longitude| Owned::Int(Cell::at(latitude, longitude, 64).int()))
}

fn decode(arguments: Row<'_>) -> Result<Owned> {
    of_text(arguments, |cell| Ok(center(&cell)))
}

fn decode_int(arguments: Row<'_>) -> Result<Owned> {
    of_int(arguments, |cell| Ok(center(&cell)))
}

fn bounding_box(arguments: Row<'_>) -> Result<Owned> {
    of_text(arguments, |cell| Ok(edges(&cell)))
}

fn bounding_box_int(arguments: Row<'_>) -> Result<Owned> {
    of_int(arguments, |cell| Ok(edges(&cell)))
}

fn neighbor(arguments: Row<'_>) -> Result<Owned> {
    of_text(arguments, |cell| Ok(towards(&cell, arguments.arg(1))?.map(|next| next.text()).into()))
}

fn neighbor_int(arguments: Row<'_>) -> Result<Owned> {
    of_int(arguments, |cell| Ok(towards(&cell, arguments.arg(1))?.map(|next| next.int()).into()))
}

fn neighbors(arguments: Row<'_>) -> Result<Owned> {
    of_text(arguments, |cell| Ok(Owned::Array(around(&cell).map(|next| next.map(|cell| cell.text()).into()).collect())))
}

fn neighbors_int(arguments: Row<'_>) -> Result<Owned> {
    of_int(arguments, |cell| Ok(Owned::Array(around(&cell).map(|next| next.map(|cell| cell.int()).into()).collect())))
}

fn place(arguments: Row<'_>, with: impl FnOnce(f64, f64) -> Owned) -> Result<Owned> {
    let degrees = |n: usize, name: &str, most: f64| match arguments.arg(n) {
        Value::Null => Ok(None),
        value => match value.as_float() {
            Some(degrees) if degrees.abs() <= most => Ok(Some(degrees)),
            Some(degrees) => Err(Error::never(format!("{name} must be from -{most} to {most}, found {degrees}"))),
            None => Err(Error::never(format!("{name} must be a number, found {}", value.kind()))),
        },
    };
    match (degrees(0, "latitude", 90.0)?, degrees(1, "longitude", 180.0)?) {
        (Some(latitude), Some(longitude)) => Ok(with(latitude, longitude)),
        _ => Ok(Owned::Null),
    }
}

fn of_text(arguments: Row<'_>, with: impl FnOnce(Cell) -> Result<Owned>) -> Result<Owned> {
    match arguments.arg(0) {
        Value::Null => Ok(Owned::Null),
        Value::Text(text) => match Cell::from_text(text) {
            Some(cell) => with(cell),
            None => Err(Error::never(format!(
                "`{text}` is no geohash: 1 to 12 of `0` to `9`, `b` to `z` without `i`, `l`, `o`"
            ))),
        },
        other => Err(Error::never(format!("a geohash must be a text, found {}", other.kind()))),
    }
}

fn of_int(arguments: Row<'_>, with: impl FnOnce(Cell) -> Result<Owned>) -> Result<Owned> {
    let value = arguments.arg(0);
    match (value, value.as_int()) {
        (Value::Null, _) => Ok(Owned::Null),
        (_, Some(int)) => with(Cell::from_int(int)),
        (other, None) => Err(Error::never(format!("a geohash must be an integer, found {}", other.kind()))),
    }
}

fn center(cell: &Cell) -> Owned {
    let (latitude, longitude) = cell.place();
    Owned::Object(Record::new().with("Longitude", longitude).with("Latitude", latitude))
}

fn edges(cell: &Cell) -> Owned {
    let edges = cell.edges();
    Owned::Object(
        Record::new()
            .with("MinLat", edges.south)
            .with("MaxLat", edges.north)
            .with("MinLng", edges.west)
            .with("MaxLng", edges.east),
    )
}

fn around(cell: &Cell) -> impl Iterator<Item = Option<Cell>> + '_ {
    DIRECTIONS.iter().map(|(_, north, east)| cell.neighbor(*north, *east))
}

fn towards(cell: &Cell, direction: Value<'_>) -> Result<Option<Cell>> {
    let known = direction.as_text().and_then(|text| DIRECTIONS.iter().find(|(name, _, _)| *name == text));
    match (known, direction) {
        (Some((_, north, east)), _) => Ok(cell.neighbor(*north, *east)),
        (None, Value::Null) => Ok(None),
        (None, other) => {
            let names: Vec<&str> = DIRECTIONS.iter().map(|(name, _, _)| *name).collect();
            Err(Error::never(format!("the direction must be one of {}, found {other}", names.join(", "))))
        }
    }
}

kuiper_plugin::export! {
    function "geohashEncode" => row(encode) {
        signature: "(float, float) -> text",
        about: "The geohash, 12 letters, of a latitude and longitude.",
        examples: [("geohashEncode(57.64911, 10.40744)", "\"u4pruydqqvj8\""), ("geohashEncode(NULL, 1)", "null")],
    },
    function "geohashEncodeInt" => row(encode_int) {
        signature: "(float, float) -> int",
        about: "The geohash, 64 bits, of a latitude and longitude.",
        examples: [("geohashEncodeInt(57.64911, 10.40744)", "-3374465534610972022")],
    },
    function "geohashDecode" => row(decode) {
        signature: "(text) -> object",
        about: "The place of a geohash, with as few digits as its size allows.",
        examples: [("geohashDecode('u4pruydqqvj')", "{\"Longitude\":10.40744,\"Latitude\":57.64911}")],
    },
    function "geohashDecodeInt" => row(decode_int) {
        signature: "(int) -> object",
        about: "The place of a geohash of 64 bits.",
        examples: [(
            "geohashDecodeInt(geohashEncodeInt(48.8566, 2.3522))",
            "{\"Longitude\":2.3522,\"Latitude\":48.85659999}",
        )],
    },
    function "geohashBoundingBox" => row(bounding_box) {
        signature: "(text) -> object",
        about: "The edges of a geohash.",
        examples: [("geohashBoundingBox('u')", "{\"MinLat\":45,\"MaxLat\":90,\"MinLng\":0,\"MaxLng\":45}")],
    },
    function "geohashBoundingBoxInt" => row(bounding_box_int) {
        signature: "(int) -> object",
        about: "The edges of a geohash of 64 bits.",
        examples: [],
    },
    function "geohashNeighbor" => row(neighbor) {
        signature: "(text, text) -> text",
        about: "The geohash of the same size next to one, in the direction North, NorthEast, East, SouthEast, South, SouthWest, West or \
                NorthWest; NULL beyond a pole.",
        examples: [("geohashNeighbor('u4pruydqqvj', 'North')", "\"u4pruydqqvm\""), ("geohashNeighbor('u', 'North')", "null")],
    },
    function "geohashNeighborInt" => row(neighbor_int) {
        signature: "(int, text) -> int",
        about: "The geohash of 64 bits next to one.",
        examples: [("geohashNeighborInt(0, 'NorthEast')", "3")],
    },
    function "geohashNeighbors" => row(neighbors) {
        signature: "(text) -> array",
        about: "The eight geohashes of the same size around one, from the north clockwise.",
        examples: [(
            "geohashNeighbors('ezs42')",
            "[\"ezs48\",\"ezs49\",\"ezs43\",\"ezs41\",\"ezs40\",\"ezefp\",\"ezefr\",\"ezefx\"]",
        )],
    },
    function "geohashNeighborsInt" => row(neighbors_int) {
        signature: "(int) -> array",
        about: "The eight geohashes of 64 bits around one, from the north clockwise.",
        examples: [],
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuiper_plugin::testing::{json, Host};

    #[test]
    fn every_example_holds() {
        assert!(Host::load(kuiper_plugin_v1).examples().unwrap() >= 10);
    }

    #[test]
    fn wrong_arguments_are_named() {
        let host = Host::load(kuiper_plugin_v1);
        for (function, arguments, text) in [
            ("geohashEncode", "[91, 0]", "latitude must be from -90 to 90, found 91"),
            ("geohashEncode", "[0, 'x']", "longitude must be a number, found a text"),
            ("geohashDecode", "[7]", "a geohash must be a text, found an integer"),
            (
                "geohashDecode",
                "['ai']",
                "`ai` is no geohash: 1 to 12 of `0` to `9`, `b` to `z` without `i`, `l`, `o`",
            ),
            (
                "geohashNeighbor",
                "['u', 'Up']",
                "the direction must be one of North, NorthEast, East, SouthEast, South, SouthWest, West, NorthWest, found \"Up\"",
            ),
        ] {
            let Owned::Array(arguments) = json(arguments) else { panic!("arguments are a list") };
            assert_eq!(host.function(function).unwrap().call(&arguments).unwrap_err().to_string(), text);
        }
    }
}
