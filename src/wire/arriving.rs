//! What the client keeps of a message whose content has come in part: `keys/arriving/HASH`. The bytes themselves are in
//! `journal/arriving/HASH`.

use prost::Message as _;
use zeroize::Zeroizing;

use super::generated::{payload, state as pb};
use super::identity::{ConversationId, Fingerprint, MessageId, message_hash};
use super::part::Part;
use super::payload::{Content, Payload};
use super::transcript::Transcript;
use super::{Malformed, array, decode};
use crate::clock::Timestamp;
use crate::limits::{FILE_NAME_BYTES_MAX, PART_BYTES};

/// A message whose content has come in part. No `Debug`: its file's name is private.
#[derive(Clone, PartialEq)]
pub struct ArrivingRecord {
    /// Whose it is.
    pub author: Fingerprint,
    /// The message without its bytes, as its first part says it; with a transcript once that is here.
    message: Payload,
    /// The whole.
    part: Part,
    here: Vec<u8>,
    count_here: u32,
    /// When the last part came, seconds since 1970.
    pub progressed: u64,
}

impl ArrivingRecord {
    /// Nothing is here yet of the content that `payload` has a part of. None where it is no part.
    pub fn begin(author: Fingerprint, payload: &Payload, now_s: u64) -> Option<Self> {
        let part = Part { number: 0, ..payload.part? };
        let file_name = payload.content.as_ref()?.file_name.clone();
        let message = Payload {
            introduction: None,
            profile: None,
            resent: 0,
            transcript: None,
            part: Some(part),
            content: Some(Content { file_name, bytes: Zeroizing::default() }),
            ..head(payload)
        };
        let here = vec![0; bytes_of_bits(part.count())];
        Some(Self { author, message, part, here, count_here: 0, progressed: now_s })
    }

    /// By which the message is known: [`message_hash`] of it. Its files are called so.
    pub fn hash(&self) -> [u8; 32] {
        message_hash(&self.author, &self.message.conversation, &self.message.id)
    }

    /// The message, without its bytes.
    pub fn message(&self) -> &Payload {
        &self.message
    }

    /// The sender's name for the file, not to be trusted.
    pub fn file_name(&self) -> &[u8] {
        self.message.content.as_ref().map_or(&[], |content| &content.file_name)
    }

    /// Bytes of the whole content.
    pub fn size(&self) -> u64 {
        self.part.size
    }

    /// SHA-256 of the whole content.
    pub fn sha256(&self) -> [u8; 32] {
        self.part.sha256
    }

    /// How many bytes are here.
    pub fn bytes_here(&self) -> u64 {
        let last = Part { number: self.part.count().saturating_sub(1), ..self.part };
        let missing = if self.has(last.number) { PART_BYTES - last.length() } else { 0 };
        (u64::from(self.count_here) * PART_BYTES).saturating_sub(missing)
    }

    /// Whether a part is here.
    pub fn has(&self, number: u32) -> bool {
        let (byte, bit) = place(number);
        self.here.get(byte).is_some_and(|bits| bits & bit != 0)
    }

    /// Whether all parts are.
    pub fn is_whole(&self) -> bool {
        self.count_here == self.part.count()
    }

    /// Whether a part of the same id does not belong to what this one is of: its author lies, or is broken.
    pub fn is_contradicted_by(&self, payload: &Payload) -> bool {
        let (Some(part), Some(content)) = (payload.part, &payload.content) else { return true };
        let same = (part.size, part.sha256) == (self.part.size, self.part.sha256)
            && content.file_name == self.file_name()
            && payload.participants == self.message.participants
            && payload.time == self.message.time
            && payload.incarnation == self.message.incarnation
            && payload.counter == self.message.counter;
        let other_transcript = part.number == 0 && self.has(0) && payload.transcript != self.message.transcript;
        !same || other_transcript
    }

    /// A part is here now. False where it was before.
    pub fn add(&mut self, payload: &Payload, now_s: u64) -> bool {
        let Some(part) = payload.part.filter(|part| part.number < self.part.count() && !self.has(part.number)) else {
            return false;
        };
        let (byte, bit) = place(part.number);
        self.here[byte] |= bit;
        self.count_here += 1;
        self.progressed = now_s;
        if part.number == 0 {
            self.message.transcript.clone_from(&payload.transcript);
        }
        true
    }

    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: pb::Arriving = decode("arriving content", bytes)?;
        let whole = payload::Part { number: 0, size: record.size, sha256: record.sha256 };
        let length = usize::try_from(PART_BYTES.min(record.size)).unwrap_or(0);
        let part = Part::parse(&whole, length)?;
        if record.counter == 0 {
            return Err(Malformed::new("arriving counter", "zero"));
        }
        if record.file_name.len() > FILE_NAME_BYTES_MAX {
            return Err(Malformed::new("arriving file name", "longer than 255 bytes"));
        }
        if record.here.len() != bytes_of_bits(part.count()) {
            return Err(Malformed::new("arriving parts", "not one bit for each"));
        }
        let beyond = (0..8).map(|more| part.count() + more).take_while(|number| place(*number).0 < record.here.len());
        if beyond.into_iter().any(|number| record.here[place(number).0] & place(number).1 != 0) {
            return Err(Malformed::new("arriving parts", "more than there are"));
        }
        let transcript = match record.transcript.is_empty() {
            true => None,
            false => Some(Transcript::parse(decode("arriving transcript", &record.transcript)?)?),
        };
        let message = Payload {
            id: MessageId(array("arriving message", &record.message)?),
            conversation: ConversationId::from_slice(&record.conversation)?,
            participants: array("arriving participants", &record.participants)?,
            time: Timestamp::from_micros(record.time),
            incarnation: array("arriving incarnation", &record.incarnation)?,
            counter: record.counter,
            introduction: None,
            profile: None,
            resent: 0,
            transcript,
            part: Some(part),
            content: Some(Content { file_name: record.file_name, bytes: Zeroizing::default() }),
        };
        Ok(Self {
            author: Fingerprint(array("arriving author", &record.author)?),
            message,
            part,
            count_here: record.here.iter().map(|byte| byte.count_ones()).sum(),
            here: record.here,
            progressed: record.progressed,
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let transcript = self.message.transcript.as_ref();
        pb::Arriving {
            author: self.author.0.to_vec(),
            conversation: self.message.conversation.0.to_vec(),
            message: self.message.id.0.to_vec(),
            participants: self.message.participants.to_vec(),
            time: self.message.time.micros(),
            incarnation: self.message.incarnation.to_vec(),
            counter: self.message.counter,
            file_name: self.file_name().to_vec(),
            size: self.part.size,
            sha256: self.part.sha256.to_vec(),
            transcript: transcript.map_or_else(Vec::new, |transcript| transcript.to_generated().encode_to_vec()),
            here: self.here.clone(),
            progressed: self.progressed,
        }
        .encode_to_vec()
    }
}

/// All of a payload but what may be large.
fn head(payload: &Payload) -> Payload {
    Payload {
        id: payload.id,
        conversation: payload.conversation,
        participants: payload.participants,
        time: payload.time,
        incarnation: payload.incarnation,
        counter: payload.counter,
        introduction: None,
        profile: None,
        resent: 0,
        transcript: None,
        part: None,
        content: None,
    }
}

fn bytes_of_bits(count: u32) -> usize {
    usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX)
}

/// Which byte and which bit of it stand for a part.
fn place(number: u32) -> (usize, u8) {
    (usize::try_from(number / 8).unwrap_or(usize::MAX), 1 << (number % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(number: u32, size: u64) -> Payload {
        let part = Part { number, size, sha256: [7; 32] };
        Payload {
            part: Some(part),
            transcript: (number == 0).then(Transcript::default),
            content: Some(Content { file_name: b"plan.pdf".to_vec(), bytes: Zeroizing::new(vec![1, 2, 3]) }),
            ..head(&Payload {
                id: MessageId([1; 16]),
                conversation: ConversationId([2; 16]),
                participants: [3; 32],
                time: Timestamp::from_micros(4),
                incarnation: [5; 16],
                counter: 6,
                introduction: None,
                profile: None,
                resent: 2,
                transcript: None,
                part: None,
                content: None,
            })
        }
    }

    fn begun(size: u64) -> ArrivingRecord {
        ArrivingRecord::begin(Fingerprint([9; 32]), &payload(1, size), 100).unwrap()
    }

    #[test]
    fn parts_in_any_order_and_repeated_add_up() {
        let size = 9 * PART_BYTES + 5;
        let mut record = begun(size);
        for number in [9, 0, 0, 3, 9] {
            record.add(&payload(number, size), 101);
        }
        assert_eq!((record.bytes_here(), record.is_whole(), record.progressed), (2 * PART_BYTES + 5, false, 101));
        assert!(record == ArrivingRecord::from_bytes(&record.to_bytes()).unwrap());
        assert!(!record.add(&payload(3, size), 102) && record.progressed == 101, "it was here");
        for number in 0..10 {
            record.add(&payload(number, size), 103);
        }
        assert!(record.is_whole() && record.bytes_here() == size);
        assert!(record.message().transcript.is_some());
        assert!(record == ArrivingRecord::from_bytes(&record.to_bytes()).unwrap());
    }

    #[test]
    fn a_part_of_something_else_contradicts() {
        let size = 20 * PART_BYTES;
        let mut record = begun(size);
        record.add(&payload(0, size), 1);
        assert!(!record.is_contradicted_by(&payload(0, size)) && !record.is_contradicted_by(&payload(7, size)));
        assert!(!record.is_contradicted_by(&Payload { resent: 3, ..payload(7, size) }), "sealed anew");
        let other = |change: &dyn Fn(&mut Payload)| {
            let mut payload = payload(0, size);
            change(&mut payload);
            payload
        };
        for wrong in [
            other(&|payload| payload.part.as_mut().unwrap().size -= 1),
            other(&|payload| payload.part.as_mut().unwrap().sha256[0] ^= 1),
            other(&|payload| payload.content.as_mut().unwrap().file_name.clear()),
            other(&|payload| payload.counter += 1),
            other(&|payload| payload.time = payload.time.next()),
            other(&|payload| payload.incarnation[0] ^= 1),
            other(&|payload| payload.transcript.as_mut().unwrap().previous[0] ^= 1),
            other(&|payload| payload.part = None),
        ] {
            assert!(record.is_contradicted_by(&wrong));
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let record = begun(9 * PART_BYTES).to_bytes();
        let with = |change: &dyn Fn(&mut pb::Arriving)| {
            let mut parsed = pb::Arriving::decode(&record[..]).unwrap();
            change(&mut parsed);
            ArrivingRecord::from_bytes(&parsed.encode_to_vec()).is_err()
        };
        assert!(!with(&|_| {}));
        assert!(with(&|record| record.here.truncate(1)) && with(&|record| record.here.push(0)));
        assert!(with(&|record| record.here[1] = 2) && !with(&|record| record.here[1] = 1), "there are nine");
        assert!(with(&|record| record.size = 1) && with(&|record| record.size = u64::MAX));
        assert!(with(&|record| record.counter = 0) && with(&|record| record.file_name = vec![b'x'; 256]));
        assert!(with(&|record| record.transcript = vec![1, 2]) && with(&|record| record.author.truncate(31)));
    }
}
