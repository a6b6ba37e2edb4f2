//! Reading the output back: frames from segments, holes as gaps. Waiting for more is in `follow`.

use std::{io, os::unix::fs::FileExt as _};

use bytes::{Buf as _, Bytes, BytesMut};
use jiff::Timestamp;

use super::{
    directory::Directory,
    format::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SEGMENT_MAGIC, STDERR, segment_name},
    records::timestamp,
};
use crate::{
    error::LogError,
    outcome::{ExitReport, ExitSource},
    output::{LogChunk, LogContent, LogCursor, LogStream},
};

/// Bytes that are read from disk at once.
const BLOCK: usize = 256 << 10;
/// Looks at a frame that does not fit its checksum before it counts as damaged: the writer may be
/// in the middle of it.
const DAMAGED_LOOKS: u32 = 50;

/// How much output there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// The offset after the last byte.
    pub(crate) end: u64,
    /// Bytes that are kept.
    pub(crate) kept: u64,
}

/// What a look at the disk finds.
pub(crate) enum Look {
    Chunks(Vec<LogChunk>),
    /// Nothing new.
    Quiet,
    /// Everything was read, and the launch has ended.
    End,
}

/// Scans what is on disk, for a launch whose shim left no record.
pub(crate) fn measure(directory: &Directory) -> Measure {
    let mut reader = Reader::new(directory.clone(), 0);
    let mut measure = Measure::default();
    // Damage ends the scan: what follows cannot be read by anybody.
    while let Ok(Some(chunk)) = reader.read(true) {
        measure.end = chunk.next.0;
        if let LogContent::Output { data, .. } = chunk.content {
            measure.kept += data.len() as u64;
        }
    }
    measure
}

/// A place in the segments.
pub(crate) struct Reader {
    directory: Directory,
    /// The next byte that the caller has not seen.
    cursor: u64,
    segment: Option<Segment>,
    /// Looks in a row at a frame that was damaged.
    damaged: u32,
}

struct Segment {
    start: u64,
    file: std::fs::File,
    /// The file offset of the first byte of `block`.
    position: u64,
    block: BytesMut,
}

/// What lies at a place of a segment.
enum Found {
    Frame {
        header: FrameHeader,
        data: Bytes,
    },
    /// Nothing whole.
    End,
    Damaged,
}

impl Reader {
    pub(crate) fn new(directory: Directory, cursor: u64) -> Self {
        Self { directory, cursor, segment: None, damaged: 0 }
    }

    /// Some of what is on disk, and the end if there is one.
    pub(crate) fn look(&mut self, report: Option<&ExitReport>) -> Result<Look, LogError> {
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while bytes < BLOCK {
            match self.read(report.is_some()) {
                Ok(Some(chunk)) => {
                    if let LogContent::Output { data, .. } = &chunk.content {
                        bytes += data.len();
                    }
                    chunks.push(chunk);
                }
                // The next look will find it again.
                Err(error) if chunks.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        if !chunks.is_empty() {
            return Ok(Look::Chunks(chunks));
        }
        let Some(report) = report else {
            return Ok(Look::Quiet);
        };
        Ok(self.finish(report)?.map_or(Look::End, |chunk| Look::Chunks(vec![chunk])))
    }

    /// The next chunk that is on disk; `None`: nothing more at the moment. `closed`: nothing is
    /// written any more.
    fn read(&mut self, closed: bool) -> Result<Option<LogChunk>, LogError> {
        loop {
            if self.segment.is_none() && !self.open()? {
                return Ok(None);
            }
            let Some(segment) = &mut self.segment else {
                return Ok(None);
            };
            match segment.next(self.cursor).map_err(LogError::Io)? {
                Found::Frame { header, data } => {
                    self.damaged = 0;
                    return Ok(Some(self.chunk(header, data)));
                }
                Found::Damaged if closed || self.damaged >= DAMAGED_LOOKS => {
                    return Err(LogError::Damaged { offset: self.cursor });
                }
                Found::Damaged => {
                    self.damaged += 1;
                    segment.block.clear();
                    return Ok(None);
                }
                Found::End => {
                    let start = segment.start;
                    if !self.has_later(start)? {
                        return Ok(None);
                    }
                    // It was closed before the later one was opened, so one more look sees its end.
                    segment_reset(&mut self.segment);
                    let Some(segment) = &mut self.segment else {
                        return Ok(None);
                    };
                    if let Found::Frame { header, data } =
                        segment.next(self.cursor).map_err(LogError::Io)?
                    {
                        return Ok(Some(self.chunk(header, data)));
                    }
                    if !self.open_after(start)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Nothing is left on disk: says what is missing until the end.
    fn finish(&mut self, report: &ExitReport) -> Result<Option<LogChunk>, LogError> {
        let end = report.log_end;
        let is_whole = end == self.cursor && report.source == ExitSource::Record;
        if !is_whole && !self.directory.has("intent.json").map_err(LogError::Io)? {
            // What is missing was not dropped but removed.
            return Err(LogError::Gone);
        }
        match end.checked_sub(self.cursor) {
            Some(0) => Ok(None),
            Some(_) => Ok(Some(self.gap(end, report.ended_at))),
            None => Err(LogError::BehindEnd { offset: self.cursor, end }),
        }
    }

    fn chunk(&mut self, header: FrameHeader, data: Bytes) -> LogChunk {
        let at = timestamp(i64::try_from(header.time_us).unwrap_or(0));
        if header.offset > self.cursor {
            return self.gap(header.offset, at);
        }
        let mut data = data;
        data.advance(usize::try_from(self.cursor - header.offset).unwrap_or(0).min(data.len()));
        let offset = self.cursor;
        self.cursor += data.len() as u64;
        if let Some(segment) = &mut self.segment {
            segment.skip(FRAME_HEADER as u64 + u64::from(header.length));
        }
        let stream = if header.stream == STDERR { LogStream::Stderr } else { LogStream::Stdout };
        LogChunk {
            offset,
            next: LogCursor(self.cursor),
            at,
            content: LogContent::Output { stream, data },
        }
    }

    fn gap(&mut self, end: u64, at: Timestamp) -> LogChunk {
        let offset = self.cursor;
        self.cursor = end;
        let content = LogContent::Gap { dropped_bytes: end - offset };
        LogChunk { offset, next: LogCursor(end), at, content }
    }

    /// Opens the segment that holds the cursor, or the first one after it.
    fn open(&mut self) -> Result<bool, LogError> {
        let starts = self.starts()?;
        let holding = starts.iter().rev().find(|start| **start <= self.cursor);
        match holding.or_else(|| starts.first()) {
            Some(start) => self.open_at(*start),
            None => Ok(false),
        }
    }

    fn open_after(&mut self, start: u64) -> Result<bool, LogError> {
        let next = self.starts()?.into_iter().find(|next| *next > start);
        match next {
            Some(next) => self.open_at(next),
            None => Ok(false),
        }
    }

    fn has_later(&self, start: u64) -> Result<bool, LogError> {
        Ok(self.starts()?.iter().any(|other| *other > start))
    }

    /// Opens a segment; `false`: it is not there (any more) or not begun yet.
    fn open_at(&mut self, start: u64) -> Result<bool, LogError> {
        let file = match self.directory.open_file(&segment_name(start)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.segment = None;
                return Ok(false);
            }
            Err(error) => return Err(LogError::Io(error)),
        };
        let mut magic = [0; SEGMENT_MAGIC.len()];
        match file.read_exact_at(&mut magic, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(LogError::Io(error)),
            Ok(()) if magic != SEGMENT_MAGIC => {
                return Err(LogError::Damaged { offset: self.cursor });
            }
            Ok(()) => {}
        }
        let position = SEGMENT_HEADER as u64;
        self.segment = Some(Segment { start, file, position, block: BytesMut::new() });
        Ok(true)
    }

    /// The start offsets of all segments, in order.
    fn starts(&self) -> Result<Vec<u64>, LogError> {
        let names = match self.directory.names() {
            Ok(names) => names,
            // The directory itself is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(LogError::Io(error)),
        };
        let start = |name: &String| match name.as_str() {
            "out.log" => Some(0),
            name => name.strip_prefix("out-")?.strip_suffix(".log")?.parse().ok(),
        };
        let mut starts: Vec<u64> = names.iter().filter_map(start).collect();
        starts.sort_unstable();
        Ok(starts)
    }
}

fn segment_reset(segment: &mut Option<Segment>) {
    if let Some(segment) = segment {
        segment.block.clear();
    }
}

impl Segment {
    /// The next frame with something at or after the cursor. It stays until it is skipped.
    fn next(&mut self, cursor: u64) -> io::Result<Found> {
        loop {
            if !self.fill(FRAME_HEADER)? {
                return Ok(Found::End);
            }
            let Some(header_bytes) = self.block.first_chunk::<FRAME_HEADER>().copied() else {
                return Ok(Found::End);
            };
            let Some(header) = FrameHeader::decode(&header_bytes) else {
                return Ok(Found::Damaged);
            };
            let total = FRAME_HEADER + header.length as usize;
            if header.offset.saturating_add(u64::from(header.length)) <= cursor {
                if self.file.metadata()?.len() < self.position + total as u64 {
                    return Ok(Found::End);
                }
                self.skip(total as u64);
                continue;
            }
            if !self.fill(total)? {
                return Ok(Found::End);
            }
            let data = self.block.get(FRAME_HEADER..total).map(Bytes::copy_from_slice);
            return Ok(match data {
                Some(data) if header.fits(&header_bytes, &data) => Found::Frame { header, data },
                Some(_) | None => Found::Damaged,
            });
        }
    }

    /// Makes the block at least that long; `false`: the file is shorter.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.block.len() >= wanted {
            return Ok(true);
        }
        // Read anew from the start of the frame: a torn one may have been taken back meanwhile.
        self.block.clear();
        let there = self.file.metadata()?.len().saturating_sub(self.position);
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        if there < wanted {
            return Ok(false);
        }
        self.block.resize(there.min(BLOCK.max(wanted)), 0);
        let mut filled = 0;
        while let Some(rest) = self.block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.position + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        self.block.truncate(filled);
        Ok(filled >= wanted)
    }

    fn skip(&mut self, bytes: u64) {
        let in_block = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.block.len());
        self.block.advance(in_block);
        self.position += bytes;
    }
}
