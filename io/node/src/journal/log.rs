//! One file that only grows: frames, each bound to all before it.
//!
//! ```text
//! file   = magic frame* zeros
//! frame  = length (4 bytes, little-endian), its complement (4), content, link (32)
//! link   = blake3(link of the frame before, content)
//! ```
//!
//! What must stay true: [`Log::append`] returns only when the frame is on the disk. At the next opening a frame that a crash
//! cut short is taken away, for nobody was told of it; anything else that does not fit its link is damage, and the file is
//! refused. The two are told apart by how disks fail: a sector (512 bytes) that was never written is missing or reads as
//! zeros, and a crash leaves such a one only in the last frame.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 16] = b"glean journal 2\n";
/// A content is one group of records; the largest possible group is far below.
const CONTENT_BYTES_MAX: usize = 1 << 30;
const HEAD_BYTES: usize = 8;
const LINK_BYTES: usize = 32;
/// The least that a disk writes or loses at once.
const SECTOR: u64 = 512;
/// Zeros are written ahead in such steps: an fsync that changes no file size is half as long.
const ROOM_BYTES: u64 = 1 << 20;

type Link = [u8; LINK_BYTES];

/// Why a log cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    /// Somebody else has it open.
    #[error("another process has it open")]
    Locked,
    /// Not such a file, or one of another build.
    #[error("it is not a journal of this build")]
    Foreign,
    /// What is there is not what was written.
    #[error("frame {number}, {offset} bytes into it, is damaged")]
    Damaged {
        /// Counted from 0.
        number: usize,
        /// Where it begins.
        offset: u64,
    },
}

/// A frame's place.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    content: u32,
}

impl Place {
    fn end(self) -> u64 {
        self.offset + (HEAD_BYTES + LINK_BYTES) as u64 + u64::from(self.content)
    }
}

/// The open log: the only one who writes.
#[derive(Debug)]
pub struct Log {
    file: Arc<Mutex<File>>,
    link: Link,
    end: u64,
    /// Up to here the file is written already, with zeros.
    room: u64,
}

/// Reads frames beside the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Frames {
    file: Arc<Mutex<File>>,
    places: Arc<Mutex<Vec<Place>>>,
}

impl Log {
    /// Opens or creates it, and shows every frame's content, oldest first. An error of `show` ends it.
    pub fn open<E: From<LogError>>(
        path: &Path,
        mut show: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(Log, Frames), E> {
        let file = claim(path).map_err(E::from)?;
        let mut scan = Scan::begin(&file).map_err(E::from)?;
        while let Some(content) = scan.next().map_err(E::from)? {
            show(scan.places.len() - 1, &content)?;
        }
        let (places, link) = (scan.places, scan.link);
        let end = places.last().map_or(MAGIC.len() as u64, |place| place.end());
        settle(&file, &places, end).map_err(|e| E::from(e.into()))?;
        let file = Arc::new(Mutex::new(file));
        let frames = Frames { file: file.clone(), places: Arc::new(Mutex::new(places)) };
        Ok((Log { file, link, end, room: end }, frames))
    }

    /// Appends one frame; when it returns, the frame survives a power cut. After an error the log must not be used again.
    pub fn append(&mut self, content: &[u8], frames: &Frames) -> Result<usize, LogError> {
        let length = u32::try_from(content.len()).ok().filter(|length| *length as usize <= CONTENT_BYTES_MAX);
        let length = length.ok_or_else(|| std::io::Error::other("a frame of more than a gigabyte"))?;
        let link = chained(&self.link, content);
        let place = Place { offset: self.end, content: length };
        let mut frame = Vec::with_capacity(HEAD_BYTES + content.len() + LINK_BYTES);
        frame.extend(length.to_le_bytes());
        frame.extend((!length).to_le_bytes());
        frame.extend(content);
        frame.extend(link);
        {
            let mut file = lock(&self.file);
            if place.end() > self.room {
                let zeros = vec![0; (place.end().next_multiple_of(ROOM_BYTES) - self.room) as usize];
                file.seek(SeekFrom::Start(self.room))?;
                file.write_all(&zeros)?;
                file.sync_all()?;
                self.room += zeros.len() as u64;
            }
            file.seek(SeekFrom::Start(self.end))?;
            file.write_all(&frame)?;
            file.sync_data()?;
        }
        (self.link, self.end) = (link, place.end());
        let mut places = lock(&frames.places);
        places.push(place);
        Ok(places.len() - 1)
    }
}

impl Frames {
    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.places).len()
    }

    /// The content of one frame, checked again.
    pub fn content(&self, number: usize) -> Result<Vec<u8>, LogError> {
        let damaged = |offset| LogError::Damaged { number, offset };
        let place = lock(&self.places).get(number).copied().ok_or(damaged(0))?;
        // What stands before a frame is the link of the one before it.
        let from = if number == 0 { place.offset } else { place.offset - LINK_BYTES as u64 };
        let mut bytes = vec![0; (place.end() - from) as usize];
        {
            let mut file = lock(&self.file);
            file.seek(SeekFrom::Start(from))?;
            file.read_exact(&mut bytes)?;
        }
        let before: Link = match number {
            0 => [0; LINK_BYTES],
            _ => bytes.drain(..LINK_BYTES).as_slice().try_into().map_err(|_| damaged(from))?,
        };
        let link = bytes.split_off(HEAD_BYTES + place.content as usize);
        let content = bytes.split_off(HEAD_BYTES);
        if chained(&before, &content) != *link {
            return Err(damaged(place.offset));
        }
        Ok(content)
    }
}

/// Shows every frame of a log that somebody else may be writing: where it begins, and its content. Changes nothing.
pub fn inspect<E: From<LogError>>(
    path: &Path,
    mut show: impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(|e| E::from(e.into()))?;
    let mut scan = Scan::begin(&file).map_err(E::from)?;
    while let Some(content) = scan.next().map_err(E::from)? {
        let offset = scan.places.last().map_or(0, |place| place.offset);
        show(scan.places.len() - 1, offset, &content)?;
    }
    Ok(())
}

/// Reads a log from its beginning to the last whole frame.
struct Scan<'f> {
    reader: BufReader<&'f File>,
    size: u64,
    places: Vec<Place>,
    link: Link,
}

impl<'f> Scan<'f> {
    fn begin(file: &'f File) -> Result<Scan<'f>, LogError> {
        let size = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        reader.seek(SeekFrom::Start(0))?;
        let mut magic = [0; MAGIC.len()];
        if reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Err(LogError::Foreign);
        }
        Ok(Scan { reader, size, places: Vec::new(), link: [0; LINK_BYTES] })
    }

    /// The next content; `None` at the end, or where a crash cut the last frame short.
    fn next(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let offset = self.places.last().map_or(MAGIC.len() as u64, |place| place.end());
        let mut frame = vec![0; (self.size - offset).min(HEAD_BYTES as u64) as usize];
        self.reader.read_exact(&mut frame)?;
        let length = length(&frame);
        let place = Place { offset, content: length.unwrap_or(0) };
        if length.is_some() && place.end() <= self.size {
            frame.resize((place.end() - offset) as usize, 0);
            self.reader.read_exact(&mut frame[HEAD_BYTES..])?;
            if let Some(link) = linked(&self.link, &frame) {
                self.link = link;
                self.places.push(place);
                frame.truncate(frame.len() - LINK_BYTES);
                return Ok(Some(frame.split_off(HEAD_BYTES)));
            }
        }
        let is_short = frame.len() < HEAD_BYTES || length.is_some() && place.end() > self.size;
        let is_torn = is_short || has_hole(offset, &frame);
        self.reader.read_to_end(&mut frame)?;
        match is_torn && !has_frame(&frame) {
            true => Ok(None),
            false => Err(LogError::Damaged { number: self.places.len(), offset }),
        }
    }
}

/// What a head says of its content.
fn length(head: &[u8]) -> Option<u32> {
    let (length, complement) = head.get(..HEAD_BYTES)?.split_at(4);
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
    word(length).filter(|length| word(complement) == Some(!length) && *length as usize <= CONTENT_BYTES_MAX)
}

/// The link of a whole frame, if it is the right one.
fn linked(before: &Link, frame: &[u8]) -> Option<Link> {
    let (content, link) = frame.get(HEAD_BYTES..)?.split_last_chunk()?;
    (chained(before, content) == *link).then_some(*link)
}

/// Whether some sector of the bytes that begin at this offset was never written.
fn has_hole(offset: u64, bytes: &[u8]) -> bool {
    let first = (SECTOR - offset % SECTOR) as usize;
    let (head, rest) = bytes.split_at(first.min(bytes.len()));
    std::iter::once(head).chain(rest.chunks(SECTOR as usize)).any(|piece| piece.iter().all(|byte| *byte == 0))
}

/// Whether a whole frame stands somewhere behind the damaged one that these bytes begin with.
fn has_frame(bytes: &[u8]) -> bool {
    (LINK_BYTES..bytes.len()).any(|at| {
        let Some(length) = length(&bytes[at..]) else { return false };
        let frame = bytes[at..].get(..HEAD_BYTES + length as usize + LINK_BYTES);
        let before = bytes[..at].last_chunk().copied();
        frame.zip(before).is_some_and(|(frame, before)| linked(&before, frame).is_some())
    })
}

/// The file, locked for us; a new one has its beginning on the disk.
fn claim(path: &Path) -> Result<File, LogError> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(LogError::Locked),
        Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
    }
    // A crash at the very beginning leaves less than the magic, or zeros.
    let mut head = Vec::new();
    (&file).take(MAGIC.len() as u64 + 1).read_to_end(&mut head)?;
    if head.len() <= MAGIC.len() && (MAGIC.starts_with(&head) || head.iter().all(|byte| *byte == 0)) {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(MAGIC)?;
        file.sync_all()?;
        sync_folder(path)?;
    }
    Ok(file)
}

/// What follows the last whole frame goes away. The last frame is written once more, for if its fsync failed before, it may
/// be in memory only.
fn settle(file: &File, places: &[Place], end: u64) -> Result<(), std::io::Error> {
    file.set_len(end)?;
    if let Some(place) = places.last() {
        let mut file = file;
        let mut frame = vec![0; (place.end() - place.offset) as usize];
        file.seek(SeekFrom::Start(place.offset))?;
        file.read_exact(&mut frame)?;
        file.seek(SeekFrom::Start(place.offset))?;
        file.write_all(&frame)?;
    }
    file.sync_all()
}

/// A new file is found again after a power cut only when its folder is on the disk, too.
fn sync_folder(path: &Path) -> Result<(), std::io::Error> {
    match path.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn chained(before: &Link, content: &[u8]) -> Link {
    *blake3::Hasher::new().update(before).update(content).finalize().as_bytes()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of these contents, as bytes: without the zeros behind it.
    fn image(contents: &[Vec<u8>]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, frames) = Log::open::<LogError>(&path, |_, _| Ok(())).unwrap();
        for content in contents {
            log.append(content, &frames).unwrap();
        }
        let mut bytes = std::fs::read(path).unwrap();
        assert!(contents.is_empty() || bytes.len() as u64 == ROOM_BYTES);
        bytes.truncate(log.end as usize);
        bytes
    }

    /// As it lies on the disk while the log is open: zeros follow.
    fn with_room(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(bytes.len() + 5_000, 0);
        bytes
    }

    /// What opening such a file shows, and the file afterwards.
    fn reopen(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, Vec<u8>), LogError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        let mut shown = Vec::new();
        let (_, frames) = Log::open::<LogError>(&path, |_, content| {
            shown.push(content.to_vec());
            Ok(())
        })?;
        assert_eq!(frames.count(), shown.len());
        for (number, content) in shown.iter().enumerate() {
            assert_eq!(frames.content(number).unwrap(), *content, "read beside the writer");
        }
        Ok((shown, std::fs::read(path).unwrap()))
    }

    fn contents() -> Vec<Vec<u8>> {
        [5usize, 0, 700, 1300].iter().map(|len| (0..*len).map(|i| (i % 250 + 1) as u8).collect()).collect()
    }

    fn cut_anywhere_it_keeps_every_whole_frame_and_goes_on_from_there() -> usize {
        let mut images = 0;
        let contents = contents();
        let whole = image(&contents);
        let ends: Vec<usize> = (0..=contents.len()).map(|count| image(&contents[..count]).len()).collect();
        for cut in 0..=whole.len() {
            images += 1;
            let kept = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            let (shown, after) = reopen(&whole[..cut]).unwrap();
            assert_eq!(shown, contents[..kept], "cut at {cut}");
            assert_eq!(after.len(), ends[kept], "the remains of a frame stay at {cut}");
        }
        images
    }

    fn sectors_of_the_last_frame_that_were_never_written_are_a_crash() -> usize {
        let mut images = 0;
        let contents = contents();
        let whole = image(&contents);
        let last = image(&contents[..3]).len();
        for sector in last / 512..=(whole.len() - 1) / 512 {
            let mut torn = whole.clone();
            torn[(sector * 512).max(last)..((sector + 1) * 512).min(whole.len())].fill(0);
            assert_eq!(reopen(&torn).unwrap().0, contents[..3], "sector {sector}");
            assert_eq!(reopen(&with_room(torn)).unwrap().0, contents[..3], "sector {sector}, zeros behind it");
            images += 2;
        }
        images
    }

    fn a_sector_lost_before_the_last_frame_is_damage() -> usize {
        let mut images = 0;
        let contents = contents();
        let whole = with_room(image(&contents));
        let last = image(&contents[..3]).len();
        for sector in 1..last / 512 {
            let mut holed = whole.clone();
            holed[sector * 512..(sector + 1) * 512].fill(0);
            assert!(matches!(reopen(&holed), Err(LogError::Damaged { .. })), "sector {sector}");
            images += 1;
        }
        images
    }

    fn a_flipped_bit_anywhere_is_found() -> usize {
        let mut images = 0;
        let contents = contents();
        let bare = image(&contents);
        for (whole, len) in [(bare.clone(), bare.len()), (with_room(bare.clone()), bare.len())] {
            for at in 0..len {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                match reopen(&flipped) {
                    Err(LogError::Damaged { .. }) => assert!(at >= MAGIC.len()),
                    Err(LogError::Foreign) => assert!(at < MAGIC.len()),
                    other => panic!("a flip at {at} gave {other:?}"),
                }
                images += 1;
            }
        }
        images
    }

    /// Every image of these stories, in one line for `cargo xtask bars`.
    #[test]
    fn no_image_of_a_hurt_disk_is_read_wrongly() {
        let stories = [
            cut_anywhere_it_keeps_every_whole_frame_and_goes_on_from_there,
            sectors_of_the_last_frame_that_were_never_written_are_a_crash,
            a_sector_lost_before_the_last_frame_is_damage,
            a_flipped_bit_anywhere_is_found,
            lost_doubled_and_exchanged_frames_are_found,
        ];
        let images: usize = stories.iter().map(|story| story()).sum();
        println!(
            r#"BAR {{"bar":"disk","what":"images of the journal, cut at every byte, a bit flipped in every byte, sectors torn or lost, frames exchanged: wrong records read","runs":{images},"control":"whole images read whole","note":"damage names the frame and its place"}}"#
        );
    }

    fn lost_doubled_and_exchanged_frames_are_found() -> usize {
        let mut images = 0;
        let contents = contents();
        let ends: Vec<usize> = (0..=contents.len()).map(|count| image(&contents[..count]).len()).collect();
        let whole = image(&contents);
        let frame = |number: usize| &whole[ends[number]..ends[number + 1]];
        let built = |order: &[usize]| [&whole[..ends[0]]].into_iter().chain(order.iter().map(|n| frame(*n))).collect();
        let orders: [&[usize]; 4] = [&[0, 2, 3], &[0, 1, 1, 2, 3], &[1, 0, 2, 3], &[0, 1, 3, 2]];
        for order in orders {
            let file: Vec<&[u8]> = built(order);
            assert!(matches!(reopen(&file.concat()), Err(LogError::Damaged { .. })), "{order:?}");
            images += 1;
        }
        images
    }
}
