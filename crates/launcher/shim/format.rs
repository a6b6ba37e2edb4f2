//! The formats that launcher and shim share: the input frame and the frames of the output.
//!
//! Both sides compile this one file, so it uses nothing but the standard library. Numbers are
//! little-endian. Each format carries a version; a reader refuses versions it does not know.

/// The version of the input frame, of the output files and of the shim's records.
pub(crate) const VERSION: u32 = 1;

/// First bytes of an input frame: name and version.
pub(crate) const INPUT_MAGIC: [u8; 8] = *b"LNCHIN\0\x01";
/// Bytes of an input frame before its payload: magic, length, hash.
pub(crate) const INPUT_HEADER: usize = 24;
/// The longest payload of an input frame.
pub(crate) const MAX_INPUT: u64 = 256 << 20;

/// First bytes of an output file: name and version; 8 bytes of zero follow.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"LNCHOUT\x01";
/// Bytes of an output file before its first frame.
pub(crate) const SEGMENT_HEADER: usize = 16;
/// First bytes of an output frame.
pub(crate) const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"LFRM");
/// Bytes of an output frame before its data.
pub(crate) const FRAME_HEADER: usize = 32;
/// The most data in one output frame.
pub(crate) const MAX_FRAME_DATA: usize = 64 << 10;

/// The stream number of standard output.
pub(crate) const STDOUT: u8 = 1;
/// The stream number of standard error.
pub(crate) const STDERR: u8 = 2;

/// The name of the output file that begins at `offset`.
pub(crate) fn segment_name(offset: u64) -> String {
    if offset == 0 { "out.log".to_owned() } else { format!("out-{offset:020}.log") }
}

/// Everything the shim must know to start a command; it arrives as one frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) program: Vec<u8>,
    pub(crate) args: Vec<Vec<u8>>,
    /// `NAME=value`, secrets included.
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: Vec<u8>,
    pub(crate) user: Option<(u32, u32)>,
    /// Cgroup directories that the command joins.
    pub(crate) cgroups: Vec<Vec<u8>>,
    /// The one of them by which everything is found and killed; empty: none.
    pub(crate) kill_cgroup: Vec<u8>,
    /// The file whose `oom_kill` line counts kills for want of memory; empty: none.
    pub(crate) oom_file: Vec<u8>,
    /// Milliseconds; 0: no limit.
    pub(crate) wall_ms: u64,
    /// Milliseconds; 0: no lease.
    pub(crate) lease_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) stop_signal: u32,
    pub(crate) head_bytes: u64,
    pub(crate) tail_bytes: u64,
    pub(crate) stdin: Vec<u8>,
    /// JSON; empty: none.
    pub(crate) assignment: Vec<u8>,
}

/// The header of an output frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) crc: u32,
    pub(crate) stream: u8,
    pub(crate) length: u32,
    pub(crate) offset: u64,
    /// Microseconds since 1970.
    pub(crate) time_us: u64,
}

impl Start {
    /// The whole frame: header and payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; INPUT_HEADER];
        put(&mut out, &self.program);
        put_list(&mut out, &self.args);
        put_list(&mut out, &self.env);
        put(&mut out, &self.cwd);
        let (present, uid, gid) = self.user.map_or((0, 0, 0), |(uid, gid)| (1, uid, gid));
        for number in [present, u64::from(uid), u64::from(gid)] {
            put_number(&mut out, number);
        }
        put_list(&mut out, &self.cgroups);
        put(&mut out, &self.kill_cgroup);
        put(&mut out, &self.oom_file);
        for number in [self.wall_ms, self.lease_ms, self.grace_ms, u64::from(self.stop_signal)] {
            put_number(&mut out, number);
        }
        put_number(&mut out, self.head_bytes);
        put_number(&mut out, self.tail_bytes);
        put(&mut out, &self.stdin);
        put(&mut out, &self.assignment);
        let length = (out.len() - INPUT_HEADER) as u64;
        let hash = fnv64(&out[INPUT_HEADER..]);
        out[..8].copy_from_slice(&INPUT_MAGIC);
        out[8..16].copy_from_slice(&length.to_le_bytes());
        out[16..24].copy_from_slice(&hash.to_le_bytes());
        out
    }

    /// Reads the payload; `None` if it is not exactly one.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let from = &mut rest;
        let start = Self {
            program: take(from)?,
            args: take_list(from)?,
            env: take_list(from)?,
            cwd: take(from)?,
            user: {
                let present = take_number(from)?;
                let uid = u32::try_from(take_number(from)?).ok()?;
                let gid = u32::try_from(take_number(from)?).ok()?;
                (present == 1).then_some((uid, gid))
            },
            cgroups: take_list(from)?,
            kill_cgroup: take(from)?,
            oom_file: take(from)?,
            wall_ms: take_number(from)?,
            lease_ms: take_number(from)?,
            grace_ms: take_number(from)?,
            stop_signal: u32::try_from(take_number(from)?).ok()?,
            head_bytes: take_number(from)?,
            tail_bytes: take_number(from)?,
            stdin: take(from)?,
            assignment: take(from)?,
        };
        rest.is_empty().then_some(start)
    }
}

/// Reads an input frame's header: length and hash of the payload.
pub(crate) fn input_header(header: &[u8; INPUT_HEADER]) -> Option<(u64, u64)> {
    let length = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let hash = u64::from_le_bytes(header[16..24].try_into().ok()?);
    (header[..8] == INPUT_MAGIC && length <= MAX_INPUT).then_some((length, hash))
}

/// The first bytes of an output file.
pub(crate) fn segment_header() -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header
}

impl FrameHeader {
    /// The header of a frame with this data.
    pub(crate) fn encode(stream: u8, offset: u64, time_us: u64, data: &[u8]) -> [u8; FRAME_HEADER] {
        let mut header = [0; FRAME_HEADER];
        header[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        header[8] = stream;
        header[12..16].copy_from_slice(&(data.len() as u32).to_le_bytes());
        header[16..24].copy_from_slice(&offset.to_le_bytes());
        header[24..32].copy_from_slice(&time_us.to_le_bytes());
        let crc = crc32(crc32(0, &header[8..]), data);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads a header; `None` if it is none.
    pub(crate) fn decode(header: &[u8; FRAME_HEADER]) -> Option<Self> {
        let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let long = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let found = Self {
            crc: word(4)?,
            stream: header[8],
            length: word(12)?,
            offset: long(16)?,
            time_us: long(24)?,
        };
        let plausible = word(0)? == FRAME_MAGIC
            && (found.stream == STDOUT || found.stream == STDERR)
            && (1..=MAX_FRAME_DATA as u32).contains(&found.length);
        plausible.then_some(found)
    }

    /// Whether the data is what the writer wrote.
    pub(crate) fn fits(&self, header: &[u8; FRAME_HEADER], data: &[u8]) -> bool {
        self.crc == crc32(crc32(0, &header[8..]), data)
    }
}

/// FNV-1a: tells a whole frame from a cut or damaged one; no defence against forgery.
pub(crate) fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// CRC-32 (IEEE), continued from `crc`.
pub(crate) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!crc, |crc, byte| (crc >> 8) ^ CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_list(out: &mut Vec<u8>, list: &[Vec<u8>]) {
    put_number(out, list.len() as u64);
    for item in list {
        put(out, item);
    }
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    let (number, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(u64::from_le_bytes(*number))
}

fn take(from: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(take_number(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes.to_vec())
}

fn take_list(from: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let count = take_number(from)?;
    (0..count).map(|_| take(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Start {
        Start {
            program: b"/bin/sh".to_vec(),
            args: vec![b"-c".to_vec(), Vec::new(), vec![0xff; 300]],
            env: vec![b"A=1".to_vec()],
            cwd: b"/".to_vec(),
            user: Some((1, 2)),
            cgroups: vec![b"/sys/fs/cgroup/x".to_vec()],
            kill_cgroup: b"/sys/fs/cgroup/x".to_vec(),
            oom_file: Vec::new(),
            wall_ms: 1,
            lease_ms: u64::MAX,
            grace_ms: 3,
            stop_signal: 15,
            head_bytes: 4,
            tail_bytes: 5,
            stdin: vec![7; 100],
            assignment: b"{}".to_vec(),
        }
    }

    #[test]
    fn input_frame_arrives_as_it_was_sent() {
        let frame = start().encode();
        let (header, payload) = frame.split_first_chunk::<INPUT_HEADER>().unwrap();
        let (length, hash) = input_header(header).unwrap();
        assert_eq!((length, hash), (payload.len() as u64, fnv64(payload)));
        assert_eq!(Start::decode(payload), Some(start()));
    }

    #[test]
    fn cut_or_longer_payload_is_no_input() {
        let frame = start().encode();
        let payload = &frame[INPUT_HEADER..];
        for end in 0..payload.len() {
            assert_eq!(Start::decode(&payload[..end]), None);
        }
        assert_eq!(Start::decode(&[payload, b"x"].concat()), None);
        // A length that would take all memory is a length that is not there.
        assert_eq!(Start::decode(&[0xff; 64]), None);
    }

    #[test]
    fn output_frame_shows_damage_anywhere() {
        let data = b"some output";
        let header = FrameHeader::encode(STDERR, 42, 1_000_000, data);
        let found = FrameHeader::decode(&header).unwrap();
        assert_eq!((found.stream, found.offset, found.length), (STDERR, 42, 11));
        assert!(found.fits(&header, data));
        assert!(!found.fits(&header, b"some 0utput"));
        for at in 8..FRAME_HEADER {
            let mut broken = header;
            broken[at] ^= 1;
            let fits = FrameHeader::decode(&broken).is_some_and(|h| h.fits(&broken, data));
            assert!(!fits, "byte {at}");
        }
    }

    #[test]
    fn checksum_is_the_usual_one() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }
}
