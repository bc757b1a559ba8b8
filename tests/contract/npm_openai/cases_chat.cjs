// What the openai package of npm sees of a server: calls, streams, models, errors; prints all of it as one JSON object.
// Arguments: the folder that the package is installed in, the base address, the key, the prompt.
"use strict";

const path = require("node:path");
const [, , folder, baseURL, apiKey, prompt] = process.argv;
const OpenAI = require(path.join(folder, "node_modules", "openai"));

const client = new OpenAI({ baseURL, apiKey });
const question = { model: "echo", messages: [{ role: "user", content: prompt }] };

const raised = (error) => ({
  raised: error.constructor.name,
  isAPIError: error instanceof OpenAI.APIError,
  status: error.status,
  code: error.code,
  type: error.type,
  message: error.message,
});

async function pieces() {
  const stream = await client.chat.completions.create({
    ...question,
    stream: true,
    stream_options: { include_usage: true },
  });
  const seen = [];
  for await (const chunk of stream) seen.push(chunk);
  return seen;
}

async function streamedToTheEnd() {
  const runner = client.chat.completions.stream(question);
  return runner.finalContent();
}

async function models() {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  return names;
}

const cases = {
  whole: () => client.chat.completions.create(question),
  pieces,
  streamedToTheEnd,
  models,
  wrongKey: () => client.withOptions({ apiKey: "sk-wrong", maxRetries: 0 }).chat.completions.create(question),
  unknownModel: () => client.chat.completions.create({ ...question, model: "belle-7b" }),
  badParameter: () => client.chat.completions.create({ ...question, temperature: 2.5 }),
};

(async () => {
  const seen = {};
  for (const [name, work] of Object.entries(cases)) {
    seen[name] = await work().catch(raised);
  }
  process.stdout.write(JSON.stringify(seen));
})();
