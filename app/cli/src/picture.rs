//! Tiles painted by strangers become one picture.
//!
//! The path tracer of `examples/` writes a tile as a binary PPM whose comment says where it belongs:
//!
//! ```text
//! P6
//! # tile at LEFT,TOP of WIDTHxHEIGHT
//! TILE_WIDTH TILE_HEIGHT
//! 255
//! (red, green, blue: a byte each)
//! ```
//!
//! [`Canvas`] takes tiles in any order, one by one, so that a picture can be shown while it grows; [`assemble`] wants
//! them all. What must stay true: a tile is foreign bytes. Nothing in it can make us take more memory than
//! [`PIXELS_MAX`] pixels, paint outside the picture, or paint a place twice.

use std::str;

use thiserror::Error;

/// The largest picture: 64 megapixels.
pub const PIXELS_MAX: u64 = 1 << 26;
/// The longest header line of a tile that is read.
const LINE_MAX: usize = 80;

/// Why a picture could not be put together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PictureError {
    /// The bytes are not a tile.
    #[error("the result of task {index} is not a tile of a picture: {reason}")]
    NotATile {
        /// Which task wrote it.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The tile is one of another picture.
    #[error(
        "task {index} painted a tile of a {width}x{height} picture, but the first tile was of a {expected_width}x{expected_height} one"
    )]
    OtherPicture {
        /// Which task wrote it.
        index: u32,
        /// Width that this tile names.
        width: u32,
        /// Height that this tile names.
        height: u32,
        /// Width of the picture so far.
        expected_width: u32,
        /// Height of the picture so far.
        expected_height: u32,
    },
    /// Two tiles claim one pixel.
    #[error("task {index} painted over a pixel at {x},{y} that another task had painted")]
    Overlap {
        /// Which task came second.
        index: u32,
        /// Column of the first such pixel.
        x: u32,
        /// Row of the first such pixel.
        y: u32,
    },
    /// Not every pixel was painted.
    #[error("{missing} of {pixels} pixels were not painted; the first is at {x},{y}")]
    Holes {
        /// How many pixels have no colour.
        missing: u64,
        /// How many pixels the picture has.
        pixels: u64,
        /// Column of the first hole.
        x: u32,
        /// Row of the first hole.
        y: u32,
    },
    /// There was no tile at all.
    #[error("there are no tiles to make a picture of")]
    Empty,
    /// The PNG encoder refused.
    #[error("the picture could not be written as PNG: {0}")]
    Encode(String),
}

/// Puts all tiles together and returns the picture as a PNG file. `index` is the task that painted a tile; it only
/// serves to name the culprit.
pub fn assemble(tiles: impl IntoIterator<Item = (u32, Vec<u8>)>) -> Result<Vec<u8>, PictureError> {
    let mut canvas: Option<Canvas> = None;
    for (index, bytes) in tiles {
        match &mut canvas {
            Some(canvas) => canvas.place(index, &bytes)?,
            None => canvas = Some(Canvas::start(index, &bytes)?),
        }
    }
    let canvas = canvas.ok_or(PictureError::Empty)?;
    canvas.finished()?;
    canvas.png()
}

/// A picture that is being put together.
pub struct Canvas {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    painted: Vec<bool>,
    missing: u64,
}

impl Canvas {
    /// A canvas as large as this first tile says, with the tile on it.
    pub fn start(index: u32, bytes: &[u8]) -> Result<Self, PictureError> {
        let tile = Tile::read(index, bytes)?;
        let pixels = u64::from(tile.full_width) * u64::from(tile.full_height);
        let count = usize::try_from(pixels).map_err(|_| not_a_tile(index, "its picture is too large"))?;
        let mut canvas = Self {
            width: tile.full_width,
            height: tile.full_height,
            rgb: vec![0; count * 3],
            painted: vec![false; count],
            missing: pixels,
        };
        canvas.paint(index, &tile)?;
        Ok(canvas)
    }

    /// Adds a tile. A tile that is refused leaves the canvas as it was.
    pub fn place(&mut self, index: u32, bytes: &[u8]) -> Result<(), PictureError> {
        self.paint(index, &Tile::read(index, bytes)?)
    }

    /// How many pixels have no colour yet.
    #[cfg(test)]
    fn missing(&self) -> u64 {
        self.missing
    }

    /// The picture as a PNG file; pixels without a colour are black.
    pub fn png(&self) -> Result<Vec<u8>, PictureError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(encode)?;
        writer.write_image_data(&self.rgb).map_err(encode)?;
        writer.finish().map_err(encode)?;
        Ok(file)
    }

    fn finished(&self) -> Result<(), PictureError> {
        match self.painted.iter().position(|painted| !painted) {
            None => Ok(()),
            Some(at) => {
                let (x, y) = self.column_row(at);
                Err(PictureError::Holes { missing: self.missing, pixels: self.painted.len() as u64, x, y })
            }
        }
    }

    fn column_row(&self, at: usize) -> (u32, u32) {
        let width = self.width as usize;
        ((at % width) as u32, (at / width) as u32)
    }

    fn paint(&mut self, index: u32, tile: &Tile<'_>) -> Result<(), PictureError> {
        if (tile.full_width, tile.full_height) != (self.width, self.height) {
            return Err(PictureError::OtherPicture {
                index,
                width: tile.full_width,
                height: tile.full_height,
                expected_width: self.width,
                expected_height: self.height,
            });
        }
        let stride = self.width as usize;
        let width = tile.width as usize;
        let row_start = |row: usize| (tile.top as usize + row) * stride + tile.left as usize;
        for row in 0..tile.height as usize {
            let start = row_start(row);
            if let Some(taken) = self.painted[start..start + width].iter().position(|painted| *painted) {
                let (x, y) = self.column_row(start + taken);
                return Err(PictureError::Overlap { index, x, y });
            }
        }
        for (row, colours) in tile.rgb.chunks_exact(width * 3).enumerate() {
            let start = row_start(row);
            self.rgb[start * 3..(start + width) * 3].copy_from_slice(colours);
            self.painted[start..start + width].fill(true);
        }
        self.missing -= u64::from(tile.width) * u64::from(tile.height);
        Ok(())
    }
}

/// A tile as it was read: lies within its picture and has a colour for each of its pixels.
struct Tile<'a> {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    full_width: u32,
    full_height: u32,
    rgb: &'a [u8],
}

impl<'a> Tile<'a> {
    fn read(index: u32, bytes: &'a [u8]) -> Result<Self, PictureError> {
        let bad = |reason| not_a_tile(index, reason);
        let mut rest = bytes;
        let mut line = || take_line(&mut rest).ok_or(bad("its header is cut short"));
        if line()? != "P6" {
            return Err(bad("it does not begin with P6"));
        }
        let place = line()?.strip_prefix("# tile at ").ok_or(bad("it does not say where it belongs"))?;
        let (corner, full) = place.split_once(" of ").ok_or(bad("it does not say where it belongs"))?;
        let (left, top) = two_numbers(corner, ',').ok_or(bad("its place is not two numbers"))?;
        let (full_width, full_height) = two_numbers(full, 'x').ok_or(bad("its picture's size is not two numbers"))?;
        let (width, height) = two_numbers(line()?, ' ').ok_or(bad("its size is not two numbers"))?;
        if line()? != "255" {
            return Err(bad("its colours are not a byte each"));
        }
        if u64::from(full_width) * u64::from(full_height) > PIXELS_MAX {
            return Err(bad("its picture is too large"));
        }
        let inside =
            |from: u32, size: u32, full: u32| size > 0 && from.checked_add(size).is_some_and(|end| end <= full);
        if !inside(left, width, full_width) || !inside(top, height, full_height) {
            return Err(bad("it lies outside its picture"));
        }
        // Cannot overflow: a tile inside its picture has no more pixels than PIXELS_MAX.
        if rest.len() as u64 != 3 * u64::from(width) * u64::from(height) {
            return Err(bad("it has not one colour for each pixel"));
        }
        Ok(Self { left, top, width, height, full_width, full_height, rgb: rest })
    }
}

fn not_a_tile(index: u32, reason: &'static str) -> PictureError {
    PictureError::NotATile { index, reason }
}

fn encode(error: png::EncodingError) -> PictureError {
    PictureError::Encode(error.to_string())
}

/// Takes one line of text off the front, without its end.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n')?;
    let line = str::from_utf8(&rest[..end]).ok()?;
    *rest = &rest[end + 1..];
    Some(line)
}

/// Two decimal numbers, and nothing but digits around the separator.
fn two_numbers(text: &str, between: char) -> Option<(u32, u32)> {
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    let (first, second) = text.split_once(between)?;
    Some((number(first)?, number(second)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile of a 4 x 2 picture, all of one colour.
    fn tile(left: u32, top: u32, width: u32, height: u32, colour: u8) -> Vec<u8> {
        let mut bytes = format!("P6\n# tile at {left},{top} of 4x2\n{width} {height}\n255\n").into_bytes();
        bytes.extend(vec![colour; (width * height * 3) as usize]);
        bytes
    }

    fn decoded(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    fn reason_of(bytes: &[u8]) -> &'static str {
        match assemble([(7, bytes.to_vec())]) {
            Err(PictureError::NotATile { index: 7, reason }) => reason,
            other => panic!("expected a refusal of tile 7, got {other:?}"),
        }
    }

    #[test]
    fn tiles_in_any_order_make_the_same_picture() {
        let tiles = [(0, tile(0, 0, 2, 2, 10)), (1, tile(2, 0, 2, 1, 20)), (2, tile(2, 1, 2, 1, 30))];
        let forth = assemble(tiles.clone()).unwrap();
        let back = assemble(tiles.into_iter().rev()).unwrap();
        assert_eq!(forth, back);
        let (width, height, pixels) = decoded(&forth);
        assert_eq!((width, height), (4, 2));
        let reds: Vec<u8> = pixels.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(reds, [10, 10, 20, 20, 10, 10, 30, 30]);
    }

    #[test]
    fn a_canvas_shows_what_it_has() {
        let mut canvas = Canvas::start(0, &tile(2, 0, 2, 2, 9)).unwrap();
        assert_eq!(canvas.missing(), 4);
        assert_eq!(decoded(&canvas.png().unwrap()).2[..12], [0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9]);
        canvas.place(1, &tile(0, 0, 2, 2, 8)).unwrap();
        assert_eq!(canvas.missing(), 0);
    }

    #[test]
    fn holes_and_overlaps_are_named() {
        let holes = assemble([(0, tile(0, 0, 2, 2, 1))]);
        assert_eq!(holes, Err(PictureError::Holes { missing: 4, pixels: 8, x: 2, y: 0 }));
        let overlap = assemble([(0, tile(0, 0, 3, 2, 1)), (5, tile(2, 0, 2, 2, 2))]);
        assert_eq!(overlap, Err(PictureError::Overlap { index: 5, x: 2, y: 0 }));
        assert_eq!(assemble([]), Err(PictureError::Empty));
    }

    #[test]
    fn a_refused_tile_leaves_the_canvas_alone() {
        let mut canvas = Canvas::start(0, &tile(2, 1, 2, 1, 9)).unwrap();
        let before = canvas.png().unwrap();
        // Its first row is free, its second is taken.
        assert!(canvas.place(1, &tile(2, 0, 2, 2, 5)).is_err());
        assert_eq!((canvas.png().unwrap(), canvas.missing()), (before, 6));
    }

    #[test]
    fn a_tile_of_another_picture_is_refused() {
        let stray = b"P6\n# tile at 0,0 of 1x1\n1 1\n255\nabc".to_vec();
        assert!(matches!(
            assemble([(0, tile(0, 0, 2, 2, 1)), (3, stray)]),
            Err(PictureError::OtherPicture { index: 3, width: 1, height: 1, expected_width: 4, expected_height: 2 })
        ));
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        assert_eq!(reason_of(b""), "its header is cut short");
        assert_eq!(reason_of(&[b'x'; 4096]), "its header is cut short");
        assert_eq!(reason_of(b"P5\n"), "it does not begin with P6");
        assert_eq!(reason_of(b"P6\n1 1\n255\nabc"), "it does not say where it belongs");
        assert_eq!(reason_of(b"P6\n# tile at 0,-1 of 1x1\n1 1\n255\nabc"), "its place is not two numbers");
        assert_eq!(reason_of(b"P6\n# tile at 0,0 of 1x1\n1 99999999999\n255\nabc"), "its size is not two numbers");
        assert_eq!(reason_of(b"P6\n# tile at 0,0 of 1x1\n1 1\n65535\nabcabc"), "its colours are not a byte each");
        assert_eq!(reason_of(b"P6\n# tile at 1,0 of 1x1\n1 1\n255\nabc"), "it lies outside its picture");
        assert_eq!(reason_of(b"P6\n# tile at 4294967295,0 of 8x8\n2 1\n255\nabcabc"), "it lies outside its picture");
        assert_eq!(reason_of(b"P6\n# tile at 0,0 of 1x1\n0 1\n255\n"), "it lies outside its picture");
        assert_eq!(reason_of(b"P6\n# tile at 0,0 of 1x1\n1 1\n255\nab"), "it has not one colour for each pixel");
        assert_eq!(reason_of(b"P6\n# tile at 0,0 of 4294967295x4294967295\n1 1\n255\nabc"), "its picture is too large");
    }

    #[test]
    fn every_cut_of_a_good_tile_is_refused() {
        let whole = tile(0, 0, 4, 2, 1);
        for length in 0..whole.len() {
            assert!(assemble([(0, whole[..length].to_vec())]).is_err(), "{length} bytes");
        }
        assert!(assemble([(0, whole)]).is_ok());
    }
}
