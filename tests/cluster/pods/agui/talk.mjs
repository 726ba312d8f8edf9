// Holds a conversation with an agent by AG-UI's own client, which checks each event and their order, and prints what it then knows.
// node talk.mjs URL QUESTION...   The agent's token is in AGENT_TOKEN.
import { HttpAgent } from "@ag-ui/client";

const [url, ...questions] = process.argv.slice(2);
const agent = new HttpAgent({ url, threadId: "t-1", headers: { Authorization: `Bearer ${process.env.AGENT_TOKEN}` } });
const turns = [];
for (const [index, content] of questions.entries()) {
  const events = [];
  agent.addMessage({ id: `question-${index}`, role: "user", content });
  await agent.runAgent({ runId: `r-${index}` }, { onEvent: ({ event }) => void events.push(event.type) });
  turns.push(events);
}
console.log(JSON.stringify({ turns, messages: agent.messages }));
