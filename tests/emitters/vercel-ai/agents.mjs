// Agents written with Vercel's AI SDK, whose models are its own mocks.
//
// All settings of the exporter come from the environment. With the argument `legacy`, the SDK sends
// the names of its version 6. Prints the tokens that it counts for the first agent. The packages
// declare that they need Node.js 22; what is used here runs on 20, too.

import { registerTelemetry, generateText, streamText, stepCountIs, tool } from 'ai';
import { MockLanguageModelV4, simulateReadableStream } from 'ai/test';
import { LegacyOpenTelemetry, OpenTelemetry } from '@ai-sdk/otel';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { z } from 'zod';

const sdk = new NodeSDK();
sdk.start();
registerTelemetry(
  process.argv[2] === 'legacy' ? new LegacyOpenTelemetry() : new OpenTelemetry(),
);

const usage = (input, cached, output, thinking) => ({
  inputTokens: { total: input, noCache: input - cached, cacheRead: cached, cacheWrite: 0 },
  outputTokens: { total: output, text: output - thinking, reasoning: thinking },
});

const toolCall = (id, toolName, input) => ({
  type: 'tool-call', toolCallId: id, toolName, input: JSON.stringify(input),
});

const answers = [
  {
    content: [
      { type: 'text', text: 'I ask for the forecast.' },
      toolCall('call-1', 'forecast', { city: 'Oslo' }),
      toolCall('call-2', 'ask_geographer', { question: 'Where is Oslo?' }),
    ],
    finishReason: { unified: 'tool-calls', raw: 'tool_use' },
    usage: usage(100, 60, 30, 10),
    response: { id: 'answer-1', modelId: 'mock-large-2026' },
    warnings: [],
  },
  {
    content: [{ type: 'text', text: 'Take an umbrella.' }],
    finishReason: { unified: 'stop', raw: 'stop' },
    usage: usage(150, 100, 12, 0),
    response: { id: 'answer-2', modelId: 'mock-large-2026' },
    warnings: [],
  },
];

const model = (name, doGenerate) =>
  new MockLanguageModelV4({ provider: 'mock.chat', modelId: name, doGenerate });

let next = 0;
const { totalUsage } = await generateText({
  model: model('mock-large', async () => answers[next++]),
  system: 'You know the weather.',
  prompt: 'Do I need an umbrella in Oslo?',
  tools: {
    forecast: tool({
      description: 'Returns the forecast of a city.',
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => ({ city, rain: true }),
    }),
    ask_geographer: tool({
      description: 'Asks the geographer.',
      inputSchema: z.object({ question: z.string() }),
      execute: async ({ question }) => {
        const { text } = await generateText({
          model: model('mock-small', async () => ({
            content: [{ type: 'text', text: 'In Norway.' }],
            finishReason: { unified: 'stop', raw: 'stop' },
            usage: usage(20, 0, 5, 0),
            warnings: [],
          })),
          prompt: question,
          telemetry: { functionId: 'geographer' },
        });
        return text;
      },
    }),
  },
  stopWhen: stepCountIs(5),
  telemetry: { functionId: 'weather' },
});

const streamed = streamText({
  model: new MockLanguageModelV4({
    provider: 'mock.chat',
    modelId: 'mock-stream',
    doStream: async () => ({
      stream: simulateReadableStream({
        chunks: [
          { type: 'text-start', id: '1' },
          { type: 'text-delta', id: '1', delta: 'One, ' },
          { type: 'text-delta', id: '1', delta: 'two.' },
          { type: 'text-end', id: '1' },
          {
            type: 'finish',
            finishReason: { unified: 'stop', raw: 'stop' },
            usage: usage(7, 0, 4, 0),
          },
        ],
      }),
    }),
  }),
  prompt: 'Count.',
  telemetry: { functionId: 'counter' },
});
await streamed.consumeStream();

let broken = 0;
await generateText({
  model: model('mock-large', async () => [
    {
      content: [toolCall('call-3', 'explode', {})],
      finishReason: { unified: 'tool-calls', raw: 'tool_use' },
      usage: usage(10, 0, 2, 0),
      warnings: [],
    },
    {
      content: [{ type: 'text', text: 'It failed.' }],
      finishReason: { unified: 'stop', raw: 'stop' },
      usage: usage(15, 0, 3, 0),
      warnings: [],
    },
  ][broken++]),
  prompt: 'Use the tool.',
  tools: {
    explode: tool({
      description: 'Fails.',
      inputSchema: z.object({}),
      execute: async () => { throw new TypeError('the tool is broken'); },
    }),
  },
  stopWhen: stepCountIs(3),
  telemetry: { functionId: 'clumsy' },
});

await generateText({
  model: model('mock-large', async () => { throw new Error('the model is unavailable'); }),
  prompt: 'Hello?',
  maxRetries: 0,
  telemetry: { functionId: 'unlucky' },
}).catch(() => {});

await sdk.shutdown();
console.log(JSON.stringify({
  input: totalUsage.inputTokens,
  output: totalUsage.outputTokens,
}));
