//! The functions `resize` and `thumbnail`: pictures (JPEG, PNG, GIF) made smaller or larger.
//!
//! An argument that is NULL gives NULL. A picture of more than `MOST_PIXELS` is refused before it is decoded, for a small file can
//! name a size that fills the memory.

use std::io::Cursor;

use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use kuiper_plugin::{Error, Function, Owned, Result, Row, Value};

/// Of a picture, before and after.
const MOST_PIXELS: u64 = 100_000_000;
/// Of JPEG, as Go's encoder has it by default.
const QUALITY: u8 = 75;

/// `resize(picture, width, height [, raw])`.
#[derive(Default)]
pub struct Resize;

/// `thumbnail(picture, maxWidth, maxHeight)`.
#[derive(Default)]
pub struct Thumbnail;

impl Function for Resize {
    fn validate(&self, arguments: &[Option<Value<'_>>]) -> Result<()> {
        checked(arguments)?;
        match arguments.get(3) {
            None | Some(None | Some(Value::Null | Value::Bool(_))) => Ok(()),
            Some(Some(other)) => {
                Err(Error::never(format!("whether the result is raw must be true or false, found {other}")))
            }
        }
    }

    fn call(&mut self, _: &kuiper_plugin::Context, arguments: Row<'_>) -> Result<Owned> {
        let Some((bytes, width, height)) = given(arguments)? else { return Ok(Owned::Null) };
        let raw = match arguments.arg(3) {
            Value::Null => false,
            Value::Bool(raw) => raw,
            other => {
                return Err(Error::never(format!("whether the result is raw must be true or false, found {other}")))
            }
        };
        let (picture, format) = decoded(bytes)?;
        let (width, height) = whole(&picture, width, height)?;
        let sized = match (width, height) == (picture.width(), picture.height()) {
            true => picture,
            false => picture.resize_exact(width, height, FilterType::Triangle),
        };
        if raw {
            return Ok(Owned::Bytes(sized.into_rgb8().into_raw()));
        }
        encoded(&sized, format)
    }
}

impl Function for Thumbnail {
    fn validate(&self, arguments: &[Option<Value<'_>>]) -> Result<()> {
        checked(arguments)
    }

    fn call(&mut self, _: &kuiper_plugin::Context, arguments: Row<'_>) -> Result<Owned> {
        let Some((bytes, most_wide, most_high)) = given(arguments)? else { return Ok(Owned::Null) };
        let (picture, format) = decoded(bytes)?;
        // Nothing is made larger.
        if picture.width() <= most_wide && picture.height() <= most_high {
            return encoded(&picture, format);
        }
        if most_wide == 0 || most_high == 0 {
            return Err(Error::never(format!("a thumbnail of {most_wide} × {most_high} pixels has none")));
        }
        encoded(&picture.resize(most_wide, most_high, FilterType::Triangle), format)
    }
}

/// Looks at the arguments that are known when a rule is made.
fn checked(arguments: &[Option<Value<'_>>]) -> Result<()> {
    match arguments.first() {
        None | Some(None | Some(Value::Null | Value::Bytes(_))) => {}
        Some(Some(other)) => return Err(no_picture(*other)),
    }
    for (place, name) in [(1, "width"), (2, "height")] {
        if let Some(Some(value)) = arguments.get(place) {
            length(*value, name)?;
        }
    }
    Ok(())
}

fn given(arguments: Row<'_>) -> Result<Option<(&[u8], u32, u32)>> {
    let (width, height) = (length(arguments.arg(1), "width")?, length(arguments.arg(2), "height")?);
    let bytes = match arguments.arg(0) {
        Value::Null => return Ok(None),
        Value::Bytes(bytes) => bytes,
        other => return Err(no_picture(other)),
    };
    Ok(width.zip(height).map(|(width, height)| (bytes, width, height)))
}

fn no_picture(found: Value<'_>) -> Error {
    Error::never(format!("a picture must be bytes, found {}", found.kind()))
}

fn length(value: Value<'_>, name: &str) -> Result<Option<u32>> {
    if value.is_null() {
        return Ok(None);
    }
    let length = value.as_int().and_then(|length| u32::try_from(length).ok());
    let wrong = || Error::never(format!("the {name} must be a number of pixels from 0, found {value}"));
    length.map(Some).ok_or_else(wrong)
}

fn decoded(bytes: &[u8]) -> Result<(DynamicImage, ImageFormat)> {
    let reader = || ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let unreadable = |error: &dyn std::fmt::Display| Error::never(format!("the picture cannot be decoded: {error}"));
    let format = reader()?.format().ok_or_else(|| Error::never("the picture is neither JPEG nor PNG nor GIF"))?;
    let (width, height) = reader()?.into_dimensions().map_err(|error| unreadable(&error))?;
    within_limits(width, height)?;
    let mut reader = reader()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_PIXELS * 8);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| unreadable(&error))?;
    Ok((picture, format))
}

fn within_limits(width: u32, height: u32) -> Result<()> {
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(Error::never(format!("a picture of {width} × {height} pixels is too large")));
    }
    Ok(())
}

/// The size that is wanted; one that is 0 keeps the proportions, both keep the picture.
fn whole(picture: &DynamicImage, width: u32, height: u32) -> Result<(u32, u32)> {
    let (wide, high) = (u64::from(picture.width()), u64::from(picture.height()));
    let in_proportion = |one: u32, other: u64, of: u64| {
        let scaled = (u64::from(one) * other + of / 2) / of.max(1);
        u32::try_from(scaled.max(1)).unwrap_or(u32::MAX)
    };
    let (width, height) = match (width, height) {
        (0, 0) => (picture.width(), picture.height()),
        (0, height) => (in_proportion(height, wide, high), height),
        (width, 0) => (width, in_proportion(width, high, wide)),
        both => both,
    };
    within_limits(width, height)?;
    Ok((width, height))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Result<Owned> {
    let mut bytes = Cursor::new(Vec::new());
    let written = match format {
        ImageFormat::Jpeg => {
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY);
            picture.to_rgb8().write_with_encoder(encoder)
        }
        other => picture.write_to(&mut bytes, other),
    };
    written.map_err(|error| Error::never(format!("the picture cannot be encoded: {error}")))?;
    Ok(Owned::Bytes(bytes.into_inner()))
}

kuiper_plugin::export! {
    function "resize" => constructor(Resize::default) {
        signature: "(bytea, int, int [, bool]) -> bytea",
        about: "The picture in this width and height, in its own format, or raw as red, green, blue of each pixel; 0 keeps the proportions.",
        examples: [("resize(NULL, 10, 10)", "null")],
    },
    function "thumbnail" => constructor(Thumbnail::default) {
        signature: "(bytea, int, int) -> bytea",
        about: "The picture, no wider and no higher than this, in its proportions and its own format.",
        examples: [("thumbnail(NULL, 10, 10)", "null")],
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use kuiper_plugin::testing::Host;

    /// Red at the left, blue at the right.
    fn picture(width: u32, height: u32, format: ImageFormat) -> Owned {
        let pixel = |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
        encoded(&DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel)), format).unwrap()
    }

    fn call(name: &str, arguments: &[Owned]) -> Result<Owned> {
        let host = Host::load(kuiper_plugin_v1);
        let function = host.function(name)?;
        function.call(arguments)
    }

    fn seen(found: &Owned) -> (ImageFormat, u32, u32, [u8; 3], [u8; 3]) {
        let Owned::Bytes(bytes) = found else { panic!("{found}") };
        let (picture, format) = decoded(bytes).unwrap();
        let rgb = picture.to_rgb8();
        let (width, height) = rgb.dimensions();
        (format, width, height, rgb.get_pixel(0, 0).0, rgb.get_pixel(width - 1, height - 1).0)
    }

    fn near(one: [u8; 3], two: [u8; 3]) -> bool {
        one.iter().zip(two).all(|(one, two)| one.abs_diff(two) < 32)
    }

    #[test]
    fn every_example_holds() {
        assert_eq!(Host::load(kuiper_plugin_v1).examples().unwrap(), 2);
    }

    #[test]
    fn pictures_keep_their_format_and_colours() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
            for (name, width, height, expected) in [
                ("resize", 20, 30, (20, 30)),
                ("resize", 0, 10, (20, 10)),
                ("resize", 10, 0, (10, 5)),
                ("resize", 0, 0, (40, 20)),
                ("resize", 80, 40, (80, 40)),
                ("thumbnail", 20, 20, (20, 10)),
                ("thumbnail", 100, 5, (10, 5)),
                ("thumbnail", 100, 100, (40, 20)),
            ] {
                let found = call(name, &[picture(40, 20, format), Owned::Int(width), Owned::Int(height)]).unwrap();
                let (kept, wide, high, first, last) = seen(&found);
                assert_eq!((kept, (wide, high)), (format, expected), "{name} {width} {height}");
                assert!(near(first, [255, 0, 0]) && near(last, [0, 0, 255]), "{name} {format:?}: {first:?} {last:?}");
            }
        }
    }

    #[test]
    fn raw_is_three_bytes_a_pixel() {
        let raw = |format, width, height| {
            call("resize", &[picture(4, 2, format), Owned::Int(width), Owned::Int(height), Owned::Bool(true)]).unwrap()
        };
        let Owned::Bytes(bytes) = raw(ImageFormat::Png, 4, 2) else { panic!("bytes") };
        assert_eq!(bytes, [[255, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 255]].concat().repeat(2));
        // With a side of 0 it has as many pixels as the picture that comes out.
        let Owned::Bytes(bytes) = raw(ImageFormat::Png, 0, 4) else { panic!("bytes") };
        assert_eq!(bytes.len(), 8 * 4 * 3);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let refused = |name: &str, arguments: &[Owned]| call(name, arguments).unwrap_err().to_string();
        let size = [Owned::Int(1), Owned::Int(1)];
        let of = |first: Owned| [&[first], &size[..]].concat();
        assert_eq!(refused("resize", &of(Owned::Text("x".into()))), "a picture must be bytes, found a text");
        assert_eq!(refused("thumbnail", &of(Owned::Bytes(vec![1, 2]))), "the picture is neither JPEG nor PNG nor GIF");
        let Owned::Bytes(mut cut) = picture(40, 20, ImageFormat::Png) else { panic!("bytes") };
        cut.truncate(60);
        let told = refused("resize", &of(Owned::Bytes(cut)));
        assert!(told.starts_with("the picture cannot be decoded: "), "{told}");
        let png = || picture(4, 2, ImageFormat::Png);
        assert_eq!(
            refused("resize", &[png(), Owned::Int(-1), Owned::Int(1)]),
            "the width must be a number of pixels from 0, found -1"
        );
        assert_eq!(
            refused("resize", &[png(), Owned::Int(100_000), Owned::Int(100_000)]),
            "a picture of 100000 × 100000 pixels is too large"
        );
        assert_eq!(
            refused("thumbnail", &[png(), Owned::Int(0), Owned::Int(1)]),
            "a thumbnail of 0 × 1 pixels has none"
        );
        let host = Host::load(kuiper_plugin_v1);
        let resize = host.function("resize").unwrap();
        assert!(resize.validate(&[None, Some(Owned::Text("a".into())), None]).is_err());
        resize.validate(&[None, Some(Owned::Int(1)), None, Some(Owned::Bool(true))]).unwrap();
    }

    #[test]
    fn a_small_file_of_a_huge_picture_is_not_decoded() {
        // The head of a PNG that says 60,000 times 60,000 pixels.
        let Owned::Bytes(mut bytes) = picture(1, 1, ImageFormat::Png) else { panic!("bytes") };
        bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let mut sum = 0xffff_ffffu32;
        for byte in &bytes[12..29] {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
            }
        }
        bytes[29..33].copy_from_slice(&(!sum).to_be_bytes());
        let told = call("resize", &[Owned::Bytes(bytes), Owned::Int(1), Owned::Int(1)]).unwrap_err().to_string();
        assert_eq!(told, "a picture of 60000 × 60000 pixels is too large");
    }
}
