//! What watchdog and worker say to each other, listening sockets included. It decides the words; neither side's doing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// No word is longer.
const WORD_BYTES_MAX: usize = 16 << 10;

/// A word, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// Here is a listening socket. The watchdog keeps it; a new worker gets it.
    Socket(String),
    /// That socket is not needed any more.
    Close(String),
    /// To a new worker: that were all sockets.
    Begin,
    /// From a worker: it serves.
    Up,
    /// From a worker: start a successor from this program.
    Replace(PathBuf),
    /// To a worker: the successor serves, finish what you have and go.
    Leave,
    /// To a worker: there is no successor, go on.
    Stay(String),
    /// From a worker: all is over, nobody is to be started again.
    Bye,
    /// What a newer program says to an older one; it means nothing there.
    Unknown,
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(a), b))
    }

    /// The end that this process was started with as its standard input, which is nothing then.
    pub(super) fn inherited() -> io::Result<Channel> {
        let channel = Channel(io::stdin().as_fd().try_clone_to_owned()?);
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(nothing)?;
        Ok(channel)
    }

    /// The same end again, for another thread.
    pub(super) fn again(&self) -> io::Result<Channel> {
        Ok(Channel(self.0.try_clone()?))
    }

    /// Says a word. An error is a listener that has gone.
    pub(super) fn say(&self, word: &Word, socket: Option<&OwnedFd>) -> io::Result<()> {
        let bytes = serde_json::to_vec(word)?;
        let borrowed = socket.map(|socket| [socket.as_fd()]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(sockets) = &borrowed {
            control.push(SendAncillaryMessage::ScmRights(sockets));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(|_| ()).map_err(io::Error::from),
            }
        }
    }

    /// The next word; none if the other side has gone.
    pub(super) fn hear(&self) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
        let mut bytes = vec![0; WORD_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                received => break received?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let socket = sockets.flatten().next();
        Ok(Some((serde_json::from_slice(&bytes[..received.bytes]).unwrap_or(Word::Unknown), socket)))
    }
}

/// A listening socket as the channel carries it.
pub(super) fn carried(listener: &TcpListener) -> io::Result<OwnedFd> {
    Ok(OwnedFd::from(listener.try_clone()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn a_socket_arrives_open_with_what_waits_in_it() {
        let (one, other) = Channel::pair().unwrap();
        let other = Channel(other);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        one.say(&Word::Socket("front".to_owned()), Some(&carried(&listener).unwrap())).unwrap();
        one.say(&Word::Begin, None).unwrap();
        drop(listener);
        let mut client = TcpStream::connect(address).expect("the socket on its way is still open");
        client.write_all(b"x").unwrap();
        let (word, socket) = other.hear().unwrap().unwrap();
        assert_eq!(word, Word::Socket("front".to_owned()));
        let (mut served, _) = TcpListener::from(socket.unwrap()).accept().unwrap();
        let mut byte = [0];
        served.read_exact(&mut byte).unwrap();
        assert_eq!(other.hear().unwrap().unwrap().0, Word::Begin);
        rustix::net::send(&one.0, b"\"Sing\"", SendFlags::NOSIGNAL).unwrap();
        assert_eq!(other.hear().unwrap().unwrap().0, Word::Unknown);
        drop(one);
        assert!(other.hear().unwrap().is_none());
    }
}
