//! A session at a Postgres without a library: a password by SCRAM-SHA-256, and statements one after another.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use crate::digest::{base64, from_base64, hmac, sha256, stretched};

/// What a login needs.
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) database: &'a str,
}

/// A session that was let in.
pub(crate) struct Session(TcpStream);

/// Why a statement or a login came to nothing: the server's code, or what became of the connection.
pub(crate) type Refusal = String;

impl Session {
    /// Logs in.
    pub(crate) fn open(stream: TcpStream, login: &Login<'_>) -> Result<Self, Refusal> {
        let mut session = Self(stream);
        let Login { user, database, .. } = login;
        let body = format!("user\0{user}\0database\0{database}\0\0");
        let start = [&196_608_u32.to_be_bytes()[..], body.as_bytes()].concat();
        session.send(None, &start)?;
        session.authenticate(login.password)?;
        session.ready().map(|_| session)
    }

    /// Runs statements; the first value of the last row, `done` where there is none.
    pub(crate) fn run(&mut self, statement: &str) -> Result<String, Refusal> {
        self.send(Some(b'Q'), format!("{statement}\0").as_bytes())?;
        self.ready()
    }

    fn authenticate(&mut self, password: &str) -> Result<(), Refusal> {
        let first = "n=,r=made-up-and-long-enough";
        let mechanism = b"SCRAM-SHA-256\0";
        let told = format!("n,,{first}");
        let length = u32::try_from(told.len()).expect("it is short").to_be_bytes();
        self.expect(10)?;
        self.send(Some(b'p'), &[&mechanism[..], &length, told.as_bytes()].concat())?;
        let challenge = String::from_utf8(self.expect(11)?).map_err(|_| "no text".to_owned())?;
        let field = |name: &str| {
            challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_default()
        };
        let (nonce, salt) = (field("r="), from_base64(field("s=")));
        let rounds = field("i=").parse().map_err(|_| "no number".to_owned())?;
        let salted = stretched(password.as_bytes(), &salt, rounds);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{first},{challenge},{without_proof}");
        let key = hmac(&salted, b"Client Key");
        let signature = hmac(&sha256(&key), signed.as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
        let last = format!("{without_proof},p={}", base64(&proof));
        self.send(Some(b'p'), last.as_bytes())?;
        self.expect(12)?;
        self.expect(0).map(drop)
    }

    /// Takes a message of authentication of this kind; tells what it says.
    fn expect(&mut self, kind: u32) -> Result<Vec<u8>, Refusal> {
        match self.receive()? {
            (b'R', body) if body.get(..4) == Some(&kind.to_be_bytes()[..]) => Ok(body[4..].to_vec()),
            (b'E', body) => Err(code(&body)),
            (other, _) => Err(format!("answers {}", char::from(other))),
        }
    }

    /// Reads until the server waits for a statement.
    fn ready(&mut self) -> Result<String, Refusal> {
        let mut end = Ok("done".to_owned());
        loop {
            match self.receive()? {
                (b'Z', _) => return end,
                (b'E', body) => end = Err(code(&body)),
                (b'D', body) if end.is_ok() => end = Ok(first_value(&body)),
                _ => {}
            }
        }
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), Refusal> {
        let length = u32::try_from(body.len() + 4).expect("it is short").to_be_bytes();
        let message: Vec<u8> =
            kind.into_iter().chain(length).chain(body.iter().copied()).collect();
        self.0.write_all(&message).map_err(|error| lost(&error))
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>), Refusal> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).map_err(|error| lost(&error))?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).saturating_sub(4);
        let mut body = vec![0; usize::try_from(length).expect("it fits")];
        self.0.read_exact(&mut body).map_err(|error| lost(&error))?;
        // A session that is ended says so before it closes.
        if kind == b'E' && body.starts_with(b"SFATAL") { Err(code(&body)) } else { Ok((kind, body)) }
    }
}

fn lost(error: &io::Error) -> Refusal {
    crate::sys::word(error)
}

/// The code of an error, `SQLSTATE`.
fn code(body: &[u8]) -> Refusal {
    let fields = body.split(|byte| *byte == 0);
    let code = fields.filter_map(|field| field.strip_prefix(b"C")).next().unwrap_or_default();
    String::from_utf8_lossy(code).into_owned()
}

/// The first value of a row.
fn first_value(row: &[u8]) -> String {
    let length = row.get(2..6).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or_default();
    String::from_utf8_lossy(row.get(6..6 + length).unwrap_or_default()).into_owned()
}
