//go:build segments

package segments

// sample is what is sent to a connection.
type sample struct {
	name string
	rule string
	say  []segment
}

const minus = -1 << 30

var onSegments = []sample{
	{name: "RST", rule: "RFC 9293 3.10.7.4 second; RFC 5961 3.2", say: []segment{{flags: rst}}},
	{name: "RST in the window", rule: "RFC 5961 3.2", say: []segment{{flags: rst, seq: 1}}},
	{name: "RST before the window", rule: "RFC 5961 3.2", say: []segment{{flags: rst, seq: -1}}},
	{name: "RST behind the window", rule: "RFC 5961 3.2", say: []segment{{flags: rst, seq: 1 << 29}}},
	{name: "RST and ACK of unsent data", rule: "RFC 9293 3.10.7.4 second", say: []segment{{flags: rst | ack, ack: 1000}}},
	{name: "SYN at the next number", rule: "RFC 5961 4.2", say: []segment{{flags: syn}}},
	{name: "the same SYN again", rule: "RFC 5961 4.2", say: []segment{{flags: syn, seq: -1}}},
	{name: "SYN with other ISN", rule: "RFC 5961 4.2", say: []segment{{flags: syn, seq: minus}}},
	{name: "SYN with data", rule: "RFC 5961 4.2", say: []segment{{flags: syn, data: "GET / HTTP/1.1\r\n"}}},
	{name: "SYN and ACK", rule: "RFC 5961 4.2", say: []segment{{flags: syn | ack}}},
	{name: "SYN and FIN", rule: "RFC 5961 4.2", say: []segment{{flags: syn | fin}}},
	{name: "SYN and RST", rule: "RFC 9293 3.10.7", say: []segment{{flags: syn | rst}}},
	{name: "SYN, ACK and RST", rule: "RFC 9293 3.10.7", say: []segment{{flags: syn | ack | rst}}},
	{name: "no flags", rule: "RFC 9293 3.10.7.4 fifth", say: []segment{{}}},
	{name: "data without ACK", rule: "RFC 9293 3.10.7.4 fifth", say: []segment{{flags: psh, data: "x"}}},
	{name: "FIN without ACK", rule: "RFC 9293 3.10.7.4 fifth", say: []segment{{flags: fin}}},
	{name: "FIN, URG and PSH", rule: "RFC 9293 3.10.7.4 fifth", say: []segment{{flags: fin | urg | psh}}},
	{name: "all flags", rule: "RFC 9293 3.10.7", say: []segment{{flags: 0x3f}}},
	{name: "ACK", rule: "RFC 9293 3.10.7.4", say: []segment{{flags: ack}}},
	{name: "ACK of unsent data", rule: "RFC 9293 3.10.7.4 fifth", say: []segment{{flags: ack, ack: 1000}}},
	{name: "data with ACK of unsent data", rule: "RFC 9293 3.10.7.4 fifth", say: []segment{{flags: ack, ack: 1000, data: "x"}}},
	{name: "data with an ACK older than any window", rule: "RFC 5961 5.2", say: []segment{{flags: ack, ack: minus, data: "x"}}},
	{name: "ACK older than any window", rule: "RFC 5961 5.2", say: []segment{{flags: ack, ack: minus}}},
	{name: "data before the window", rule: "RFC 9293 3.10.7.4 first", say: []segment{{flags: ack, seq: -4, data: "abcd"}}},
	{name: "data behind the window", rule: "RFC 9293 3.10.7.4 first", say: []segment{{flags: ack, seq: 1 << 29, data: "abcd"}}},
	{name: "ACK before the window", rule: "RFC 9293 3.10.7.4 first", say: []segment{{flags: ack, seq: -1}}},
	{name: "ACK behind the window", rule: "RFC 9293 3.10.7.4 first", say: []segment{{flags: ack, seq: 1 << 29}}},
	{name: "keep-alive probe with a byte", rule: "RFC 9293 3.8.4", say: []segment{{flags: ack, seq: -1, data: "x"}}},
	{name: "data out of order", rule: "RFC 9293 3.10.7.4", say: []segment{{flags: ack, seq: 10, data: "x"}}},
	{name: "FIN", rule: "RFC 9293 3.10.7.4 eighth", say: []segment{{flags: fin | ack}}},
	{name: "FIN twice", rule: "RFC 9293 3.10.7.4 eighth", say: []segment{{flags: fin | ack}, {flags: fin | ack}}},
	{name: "FIN behind the window", rule: "RFC 9293 3.10.7.4 first", say: []segment{{flags: fin | ack, seq: 1 << 29}}},
	{name: "FIN out of order", rule: "RFC 9293 3.10.7.4 eighth", say: []segment{{flags: fin | ack, seq: 10}}},
	{name: "data behind FIN", rule: "RFC 9293 3.10.7.4 seventh", say: []segment{{flags: fin | ack}, {flags: ack, seq: 1, data: "x"}}},
	{name: "old timestamp", rule: "RFC 7323 5.3 R1", say: []segment{{flags: ack, data: "x", stampBack: 1000}}},
	{name: "pure ACK with an old timestamp", rule: "RFC 7323 5.3 R1", say: []segment{{flags: ack, stampBack: 1000}}},
	{name: "FIN with an old timestamp", rule: "RFC 7323 5.3 R1", say: []segment{{flags: fin | ack, stampBack: 1000}}},
	{name: "RST with an old timestamp", rule: "RFC 7323 5.2", say: []segment{{flags: rst, stampBack: 1000}}},
	{name: "no timestamp", rule: "RFC 7323 3.2", say: []segment{{flags: ack, noStamp: true}}},
	{name: "corrupt checksum", rule: "RFC 9293 3.1", say: []segment{{flags: ack, data: "x", corrupt: true}}},
	{name: "corrupt RST", rule: "RFC 9293 3.1", say: []segment{{flags: rst, corrupt: true}}},
	{name: "urgent pointer beyond the data", rule: "RFC 9293 3.8.5", say: []segment{{flags: ack | urg, urgent: 500}}},
	{name: "header longer than the segment", rule: "RFC 9293 3.1", say: []segment{{flags: ack, offset: 15}}},
	{name: "header shorter than 20 bytes", rule: "RFC 9293 3.1", say: []segment{{flags: ack, offset: 4}}},
	{name: "option of length 0", rule: "RFC 9293 3.1", say: []segment{{flags: ack, noStamp: true, options: []byte{254, 0, 0, 0}}}},
	{name: "option longer than the header", rule: "RFC 9293 3.1", say: []segment{{flags: ack, noStamp: true, options: []byte{254, 40, 0, 0}}}},
	{name: "SACK of unsent data", rule: "RFC 2018", say: []segment{{flags: ack, options: []byte{1, 1, 5, 10, 0x7f, 0, 0, 0, 0x7f, 0, 1, 0}}}},
	{name: "window 0", rule: "RFC 9293 3.8.6", say: []segment{{flags: ack, window: -1}}},
}
